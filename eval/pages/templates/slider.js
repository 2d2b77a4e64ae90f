for (const slider of document.querySelectorAll(".slider")) {
  const section = slider.closest("section");
  const [select, stage, range, shots, told, reveal] =
    ["select", ".stage", "[type=range]", ".shots", ".told", ".reveal"].map((s) => slider.querySelector(s));
  const unveiled = reveal.querySelector("input");
  const images = [new Image(), new Image()];
  const pairs = [];
  for (const grid of section.querySelectorAll(".grid")) {
    const group = document.createElement("optgroup");
    group.label = grid.parentElement.querySelector("h3").textContent;
    for (const pair of grid.querySelectorAll(".pair")) {
      group.append(new Option(pair.title, pairs.length));
      pairs.push(pair);
    }
    select.append(group);
  }
  const slide = () => {
    stage.style.setProperty("--at", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % base, ${100 - range.value} % erased`);
  };
  const veil = () => stage.classList.toggle("veiled", !reveal.hidden && !unveiled.checked);
  const choose = () => {
    const pair = pairs[select.value];
    pair.querySelectorAll("img").forEach((image, i) => {
      images[i].src = image.src;
      images[i].alt = image.alt;
    });
    told.textContent = pair.querySelector("figcaption")?.textContent ?? "";
    reveal.hidden = !pair.querySelector(".veil");
    unveiled.checked = false;
    veil();
  };
  if (pairs.length) {
    shots.append(...images);
    select.addEventListener("change", choose);
    range.addEventListener("input", slide);
    unveiled.addEventListener("change", veil);
    choose();
    slide();
    slider.hidden = false;
  }
}
