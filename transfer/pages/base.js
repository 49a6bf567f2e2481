"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

// Strings become text, never markup.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const other = theme === "dark" ? "light" : "dark";
  for (const button of document.querySelectorAll(".theme")) {
    button.textContent = theme === "dark" ? "☀ Light" : "☾ Dark";
    button.setAttribute("aria-label", `Switch to ${other} colours`);
  }
}

function themeButton() {
  const flip = () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  return element("button", { class: "theme no-print", type: "button", onclick: flip });
}

// Colours are those of the system until somebody says otherwise; paper is white.
const dark = matchMedia("(prefers-color-scheme: dark)");
function followSystem() { setTheme(dark.matches ? "dark" : "light"); }
dark.addEventListener("change", followSystem);
let screenTheme = "light";
addEventListener("beforeprint", () => { screenTheme = document.documentElement.dataset.theme; setTheme("light"); });
addEventListener("afterprint", () => setTheme(screenTheme));
followSystem();
