// The page: what is chosen (variants, layer and head, the scale of the steps), the bar that chooses it, and the tables
// of the last section. Everything from the data goes in as text nodes, never as markup.

function element(name, attributes = {}, children = []) {
  const out = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => out.setAttribute(key, value));
  out.append(...children);
  return out;
}

const data = JSON.parse(document.getElementById('data').textContent);
const state = {hidden: new Set(), layer: 0, head: 0, logSteps: false};

// Every (layer, head) of any run, and each head's largest final sink attention over the runs.
const heads = new Map();
data.runs.forEach(run => run.series.forEach(s => {
  if (s.layer < 0 || s.head < 0) return;
  const key = s.layer + ',' + s.head, known = heads.get(key) || {layer: s.layer, head: s.head, sink: -1};
  if (s.field === 'sink_attention') known.sink = Math.max(known.sink, s.values[s.values.length - 1] || 0);
  heads.set(key, known);
}));
data.runs.forEach(run => run.attention.last && run.attention.last.maps.forEach(map => {
  const key = map.layer + ',' + map.head;
  if (!heads.has(key)) heads.set(key, {layer: map.layer, head: map.head, sink: -1});
}));
const headList = [...heads.values()].sort((a, b) => a.layer - b.layer || a.head - b.head);
const strongest = headList.reduce((best, head) => !best || head.sink > best.sink ? head : best, null);
if (strongest) { state.layer = strongest.layer; state.head = strongest.head; }
state.layers = new Set(headList.map(h => h.layer)).size;
state.heads = new Set(headList.map(h => h.head)).size;

const charts = new Charts(data, state), positions = new PositionCharts(data, state);
const maps = new AttentionMaps(data, state);

function update() {
  charts.update();
  positions.update();
  maps.update();
  document.querySelectorAll('#legend button').forEach(
      (button, g) => button.setAttribute('aria-pressed', !state.hidden.has(g)));
  document.querySelectorAll('.grids button').forEach(button => button.setAttribute(
      'aria-current', button.dataset.head === state.layer + ',' + state.head));
  document.querySelectorAll('#selectors select').forEach(select => { select.value = String(state[select.name]); });
}

function buildLegend() {
  data.groups.forEach((group, g) => {
    const seeds = group.runs.length > 1 ? ` · ${group.runs.length} seeds` : '';
    const button = element('button', {type: 'button', 'aria-pressed': 'true', title: 'switch on or off'},
                           [element('i', {class: 'swatch', 'data-group': g % 8}), group.label + seeds]);
    button.addEventListener('click', () => {
      if (!state.hidden.delete(g)) state.hidden.add(g);
      update();
    });
    document.getElementById('legend').append(button);
  });
}

function chooseHead(layer, head) {
  const wanted = headList.find(h => h.layer === layer && h.head === head) || headList.find(h => h.layer === layer);
  state.layer = wanted.layer;
  state.head = wanted.head;
  update();
}

function selector(name, values, onChoice) {
  const select = element('select', {name}, values.map(value => element('option', {value}, [String(value)])));
  select.addEventListener('change', () => onChoice(Number(select.value)));
  return element('label', {}, [name + ' ', select]);
}

function buildSelectors() {
  const place = document.getElementById('selectors');
  const layers = [...new Set(headList.map(h => h.layer))];
  const indices = [...new Set(headList.map(h => h.head))].sort((a, b) => a - b);
  if (layers.length > 1) place.append(selector('layer', layers, layer => chooseHead(layer, state.head)));
  if (indices.length > 1) place.append(selector('head', indices, head => chooseHead(state.layer, head)));
  const box = element('input', {type: 'checkbox', id: 'log-steps'});
  box.addEventListener('change', () => { state.logSteps = box.checked; update(); });
  place.append(element('label', {}, [box, ' log steps']));
}

// What the grid of heads can show. Figures beyond 1 are coloured by their share of the largest in any run.
const namedHeadFigures = [
  {kind: 'probe', field: 'sink_attention', name: 'attention on position 0'},
  {kind: 'analysis_head', field: 'sink_rate', name: 'sink rate'},
  {kind: 'analysis_head', field: 'value_norm_ratio', name: 'value norm, first / rest'},
  {kind: 'analysis_head', field: 'value_gradient_ratio', name: 'gradient of the value, first / rest'},
  {kind: 'analysis_head', field: 'relative_entropy', name: 'relative entropy'},
  {kind: 'analysis_head', field: 'gate_mean', name: 'gate opening'},
];
const headFigures = namedHeadFigures.concat(
  data.figures.filter(figure => figure.of_heads && !namedHeadFigures.some(named => named.field === figure.key))
              .map(figure => ({kind: 'analysis_head', field: figure.key, name: figure.title})));

function finalFigures(run, figure) {
  return new Map(run.series.filter(s => s.kind === figure.kind && s.field === figure.field && s.head >= 0)
                           .map(s => [s.layer + ',' + s.head, s.values[s.values.length - 1]]));
}

// Layers down, heads across.
function headTable(final, largest) {
  const indices = [...new Set(headList.map(h => h.head))].sort((a, b) => a - b);
  const cell = (layer, head) => {
    const key = layer + ',' + head, value = final.get(key);
    if (value === undefined) return element('td');
    const button = element('button', {type: 'button', 'data-head': key, style: `background:${rampColour(value / largest)}`,
                                      title: `L${layer}H${head}: ${value === null ? 'nan' : formatNumber(value)}`});
    button.addEventListener('click', () => chooseHead(layer, head));
    return element('td', {}, [button]);
  };
  return element('table', {}, [
    element('tr', {}, [element('th', {scope: 'col'}, ['head']),
                       ...indices.map(head => element('th', {class: 'head', scope: 'col'}, [String(head)]))]),
    ...[...new Set(headList.map(h => h.layer))].map(layer => element('tr', {}, [
      element('th', {scope: 'row'}, ['layer ' + layer]), ...indices.map(head => cell(layer, head))]))]);
}

// Of several seeds the first that has the figure: heads of equal numbers in two seeds have nothing in common.
function drawHeadGrid(figure) {
  const shown = data.groups.map(group => group.runs.map(r => data.runs[r]).find(run => finalFigures(run, figure).size));
  const finals = shown.map(run => run ? finalFigures(run, figure) : new Map());
  const largest = Math.max(1, ...finals.flatMap(final => [...final.values()].filter(Number.isFinite)));
  const figures = data.groups.flatMap((group, g) => shown[g] ? [element('figure', {}, [
    element('h3', {}, [element('i', {class: 'swatch', 'data-group': g % 8}),
                       group.label + (group.runs.length > 1 ? ` (${shown[g].label})` : '')]),
    headTable(finals[g], largest)])] : []);
  document.querySelector('#head-grid .grids').replaceChildren(...figures);
  document.getElementById('grid-scale').textContent =
      `Dark is 0, bright is ${formatNumber(Number(largest.toPrecision(3)))}.`;
}

function buildHeadGrid() {
  const known = headFigures.filter(figure => data.runs.some(run => finalFigures(run, figure).size));
  if (headList.length < 2 || !known.length) return;
  const select = element('select', {name: 'figure'}, known.map((figure, i) => element('option', {value: i}, [figure.name])));
  select.addEventListener('change', () => { drawHeadGrid(known[Number(select.value)]); update(); });
  document.getElementById('grid-figure').append(select);
  drawHeadGrid(known[0]);
  document.getElementById('head-grid').hidden = false;
}

function runTable(rows) {
  return element('table', {}, [
    element('thead', {}, [element('tr', {}, [element('th'), ...data.runs.map(run => element('th', {class: 'run', scope: 'col'},
        [element('i', {class: 'swatch', 'data-group': run.group % 8}), run.label]))])]),
    element('tbody', {}, rows.map(([key, values]) => element('tr', {}, [
      element('th', {scope: 'row'}, [key]), ...values.map(value => element('td', {class: 'text'}, [value]))]))),
  ]);
}

function shownValue(value) {
  if (value === null || value === undefined) return '–';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function buildTables() {
  const differences = data.differences.map(d => [d.key, d.values.map(shownValue)]);
  const place = document.getElementById('differences');
  if (differences.length) place.append(runTable(differences));
  else place.replaceWith(element('p', {class: 'intro'}, [
    data.runs.length > 1 ? 'Their configs are equal, as far as they are known.' : 'There is only one run.']));

  const keys = [...new Set(data.runs.flatMap(run => Object.keys(run.info)))];
  const seconds = value => {
    const whole = Math.round(value);
    return whole < 120 ? formatNumber(Number(value.toPrecision(3))) + ' s' : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  };
  const shownInfo = (key, value) => typeof value !== 'number' ? shownValue(value)
      : key === 'seconds' ? seconds(value) : value.toLocaleString('en-US');
  if (keys.length) {
    document.getElementById('infos').append(
        runTable(keys.map(key => [key.replace(/_/g, ' '), data.runs.map(run => shownInfo(key, run.info[key]))])));
  } else {
    document.getElementById('infos').replaceWith(element('p', {class: 'intro'}, ['The runs do not say.']));
  }

  data.runs.forEach(run => document.getElementById('configs').append(element('details', {}, [
    element('summary', {}, [element('i', {class: 'swatch', 'data-group': run.group % 8}), run.label]),
    element('pre', {}, [JSON.stringify(run.config, null, 2)])])));
}

buildLegend();
buildSelectors();
buildHeadGrid();
buildTables();
charts.build();
positions.build();
maps.build();
update();
window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', update);
