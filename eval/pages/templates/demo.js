const find = (place) => document.querySelector(place);
const form = find("#ask"), told = find("#told"), problem = find("#problem"), progress = find("progress");
const asking = [...form.querySelectorAll("button:not(#cancel)")], cancel = find("#cancel");
const columns = [...document.querySelectorAll(".column")];
const LARGEST = 10000; // of seeds that "Another seed" draws: short enough to be told to somebody
let work = null;

const named = (tag, ways = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), ways);
  made.append(...inside);
  return made;
};

function clear() {
  problem.textContent = "";
  progress.value = 0;
  for (const column of columns) {
    column.querySelector(".frame").replaceChildren();
    column.querySelector("ul").replaceChildren();
  }
}

function show(event, asked) {
  const column = columns[event.column];
  const name = column.querySelector("h3").textContent;
  const image = named("img", { src: event.image, alt: `${name}: ${asked.prompt} (seed ${asked.seed})` });
  const veil = () => named("input", { type: "checkbox", ariaLabel: `Show the image: ${image.alt}` });
  column.querySelector(".frame").replaceChildren(
    event.veiled ? named("label", { className: "veil" }, veil(), image) : image);
  column.querySelector("ul").replaceChildren(...event.answers.map(({ axis, said, still }) =>
    named("li", {}, named("span", {}, `${axis}: `),
      still ? named("b", { className: "worse" }, `${said}: still recognised`) : said)));
}

function hear(event, asked) {
  if (event.waiting) {
    told.textContent = `Waiting: ${event.waiting} ahead of you.`;
  } else if (event.problem) {
    problem.textContent = event.problem;
    told.textContent = columns[0].querySelector("img") ? "Nothing more was made." : "Nothing was made.";
  } else if (event.step) {
    progress.value = event.column * event.steps + event.step;
    const name = columns[event.column].querySelector("h3").textContent;
    if (event.step === 1) told.textContent = `Making image ${event.column + 1} of ${columns.length}: ${name}.`;
  } else if (event.image) {
    show(event, asked);
  } else if (event.done) {
    told.textContent = `“${asked.prompt}”, seed ${asked.seed}.`;
  }
}

async function* lines(body) {
  let rest = "";
  for (const reader = body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.map((line) => JSON.parse(line));
  }
}

async function ask(event) {
  event.preventDefault();
  if (work) return;
  const asked = Object.fromEntries(new FormData(form));
  let last = {};
  work = new AbortController();
  for (const button of asking) button.disabled = true;
  cancel.disabled = false;
  clear();
  told.textContent = "Starting.";
  try {
    const answer = await fetch("/images", { method: "POST", body: JSON.stringify(asked), signal: work.signal });
    if (!answer.ok) throw new Error(answer.statusText);
    for await (last of lines(answer.body)) hear(last, asked);
    if (!last.done && !last.problem) throw new Error("its terminal says why");
  } catch (error) {
    told.textContent = "Nothing more was made.";
    if (work.signal.aborted) told.textContent = "Cancelled.";
    else problem.textContent = `The server ended the work: ${error.message}.`;
  }
  work = null;
  for (const button of asking) button.disabled = false;
  cancel.disabled = true;
}

form.addEventListener("submit", ask);
cancel.addEventListener("click", () => work?.abort());
find("#another").addEventListener("click", () => {
  form.seed.value = 1 + Math.floor(Math.random() * LARGEST);
  form.requestSubmit();
});
for (const button of form.querySelectorAll(".examples button")) {
  button.addEventListener("click", () => {
    form.prompt.value = button.textContent;
    form.requestSubmit();
  });
}
