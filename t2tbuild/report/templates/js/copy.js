// Copying: by the clipboard where the browser gives it, else by a hidden text field.
async function copyText(text, button) {
  const said = button.textContent;
  button.textContent = (await intoClipboard(text)) ? "copied" : "cannot copy";
  setTimeout(() => { button.textContent = said; }, 1500);
}

async function intoClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { style: "position:fixed;opacity:0", "aria-hidden": "true" });
    const before = document.activeElement;
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    before?.focus();
    return done;
  }
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copyText(byId(button.dataset.copy).textContent, button));
}
