"""Results that people look at: a page of any runs, pictures of it, and the table of the best known.

A run is read (`runs`), its summary becomes lines (`lines`), lines become figures (`figures`, whose
drawings in the words of Vega-Lite are in `drawings`), rows become items (`items`), and everything
is one file of HTML (`page`) or pictures (`pictures`). `leaderboard` does it for published results.
"""
