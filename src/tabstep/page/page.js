"use strict";
for (const head of document.querySelectorAll("th[data-sort]")) {
  const sort = () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0], place = head.cellIndex;
    const value = row => row.cells[place].dataset.v ?? row.cells[place].textContent;
    const rank = (a, b) => {
      const x = value(a), y = value(b), n = Number(x), m = Number(y);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = Number.isNaN(n) || Number.isNaN(m) ? x.localeCompare(y, undefined, { numeric: true }) : n - m;
      return down ? -order : order;
    };
    for (const row of [...body.rows].sort(rank)) body.append(row);
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
}
for (const box of document.querySelectorAll("[data-decisions]")) {
  const outputs = JSON.parse(box.dataset.decisions), part = name => box.querySelector(`[data-part=${name}]`);
  const range = part("threshold"), label = part("output"), show = (name, value) => { part(name).textContent = value; };
  const share = (a, b) => b ? (a / b).toFixed(4) : "–";
  const data = () => outputs[label ? label.value : 0];
  const costs = () => data().fp.map((fp, i) => fp * part("cost-fp").value + data().fn[i] * part("cost-fn").value);
  const update = () => {
    const d = data(), i = Number(range.value), [tp, fp, fn, tn] = [d.tp[i], d.fp[i], d.fn[i], d.tn[i]];
    show("value", Number(d.thresholds[i].toPrecision(4)));
    for (const [name, count] of Object.entries({ tp, fp, fn, tn })) show(name, count.toLocaleString("en"));
    show("precision", share(tp, tp + fp));
    show("recall", share(tp, tp + fn));
    show("f1", share(2 * tp, 2 * tp + fp + fn));
    show("accuracy", share(tp + tn, tp + fp + fn + tn));
    show("flagged", share(tp + fp, tp + fp + fn + tn));
    show("cost", costs()[i].toLocaleString("en", { maximumFractionDigits: 2 }));
    show("cost-row", share(costs()[i], tp + fp + fn + tn));
  };
  part("cheapest").addEventListener("click", () => {
    const all = costs();
    range.value = all.indexOf(Math.min(...all));
    update();
  });
  // each label has a threshold of its own; before the box hears of it
  if (label) label.addEventListener("input", () => {
    range.max = data().thresholds.length - 1;
    range.value = data().start;
  });
  box.addEventListener("input", update);
  box.hidden = false;
  update();
}
