// What the report's page does, looked at from inside: appended to a page of two variants of two seeds, two layers and two
// heads, and one run more whose name is markup. Writes its results as text, one line a check.
(() => {
'use strict';
const lines = [];
let checks = 0;

function check(what, good, seen) {
  ++checks;
  if (!good) lines.push(`FAILED ${what}: ${seen === undefined ? '' : JSON.stringify(seen)}`);
}

const all = selector => [...document.querySelectorAll(selector)];
const data = JSON.parse(document.getElementById('data').textContent);
const charts = () => all('canvas').map(canvas => Chart.getChart(canvas)).filter(chart => chart);
const titled = title => charts().find(chart => chart.canvas.getAttribute('aria-label').startsWith(title + ' over'));
const lastOf = points => points[points.length - 1];
const buttons = () => all('#legend button');
const choose = (select, value) => {
  select.value = value;
  select.dispatchEvent(new Event('change'));
};

function checkCharts() {
  const loss = titled('Training loss');
  // Two seeds are two thin lines and their mean; a run alone is one line.
  check('lines of the loss', loss.data.datasets.length === 3 + 3 + 1, loss.data.datasets.map(d => d.label));
  const first = data.runs[0].series.find(s => s.kind === 'train' && s.field === 'loss');
  check('the last loss', lastOf(loss.data.datasets[0].data).y === lastOf(first.values), lastOf(first.values));
  const mean = loss.data.datasets[2], pair = [0, 1].map(i => lastOf(loss.data.datasets[i].data).y);
  check('the mean of seeds', Math.abs(lastOf(mean.data).y - (pair[0] + pair[1]) / 2) < 1e-12, mean.label);
  check('charts on the page', charts().length >= 15, charts().length);
}

function checkLegend() {
  check('a button a variant', buttons().length === 3, buttons().map(b => b.textContent));
  buttons()[0].click();
  check('a variant is gone', titled('Training loss').data.datasets.length === 4 &&
        buttons()[0].getAttribute('aria-pressed') === 'false');
  buttons()[0].click();
  check('and back', titled('Training loss').data.datasets.length === 7);
}

function checkHeads() {
  const figure = titled('Sink attention').canvas.closest('figure');
  choose(document.querySelector('#selectors select[name=layer]'), '1');
  choose(document.querySelector('#selectors select[name=head]'), '0');
  check('the chosen head', figure.querySelector('h3').textContent.includes('layer 1, head 0'),
        figure.querySelector('h3').textContent);
  const cell = document.querySelector('.grids button[data-head="0,1"]');
  cell.click();
  check('a cell of the grid chooses its head', figure.querySelector('h3').textContent.includes('layer 0, head 1') &&
        cell.getAttribute('aria-current') === 'true');
  const of_run = data.runs[0].series.find(
      s => s.kind === 'probe' && s.field === 'sink_attention' && s.layer === 0 && s.head === 1);
  const shown = titled('Sink attention').data.datasets[0];
  check('the head that is drawn', lastOf(shown.data).y === lastOf(of_run.values));
}

function checkScale() {
  const box = document.getElementById('log-steps');
  box.click();
  check('logarithmic steps', titled('Training loss').options.scales.x.type === 'logarithmic');
  box.click();
}

function colours(canvas) {
  const {width, height} = canvas;
  const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data, found = new Set();
  for (let i = 0; i < pixels.length; i += 4) found.add(pixels[i] * 65536 + pixels[i + 1] * 256 + pixels[i + 2]);
  return found.size;
}

function checkMaps() {
  const map = document.querySelector('#maps .maps canvas');
  check('a map has colours', colours(map) > 8, colours(map));
  const readout = map.parentElement.querySelector('output'), box = map.getBoundingClientRect();
  // Down the left edge of the cells until the first query is met, which sees itself alone.
  let text = '';
  for (let at = 0; at < box.width && !text.startsWith('query'); ++at) {
    map.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + at, clientY: box.top + at}));
    text = readout.textContent;
  }
  check('the first query looks at itself', /^query .* \(0\) → key .* \(0\): 1($| ·)/.test(text), text);
}

function checkText() {
  check('names are text', !document.querySelector('img') && document.body.textContent.includes('<img src=y'));
  check('nothing is loaded', all('[src], link[href]').length === 0);
}

try {
  checkCharts();
  checkLegend();
  checkHeads();
  checkScale();
  checkMaps();
  checkText();
} catch (error) {
  lines.push('FAILED with ' + error.stack);
}
window.pageErrors.forEach(text => lines.push('FAILED with an error of the page: ' + text));
const place = document.createElement('pre');
place.textContent = ['', 'PAGE TEST BEGINS', ...lines, `${checks} checks`, 'PAGE TEST ENDS', ''].join('\n');
document.body.append(place);
})();
