"""Reading videos: files and folders of frames become arrays of exactly the frames asked for."""
