// Copy buttons: they use the clipboard API, or a hidden text field if it is not available.
async function copyText(text, button) {
  const label = button.textContent;
  button.textContent = (await writeClipboard(text)) ? "copied" : "copy failed";
  setTimeout(() => { button.textContent = label; }, 1500);
}

async function writeClipboard(text) {
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
