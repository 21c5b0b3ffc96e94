// Line charts: one panel a metric, one colour a group of runs (a variant), every seed a thin line and their mean a
// thick one; where runs have several heads, the panels of a head have no mean, for heads of equal numbers in two seeds
// have nothing in common. A panel without data is left out. `scope` says what a panel's series belong to: the model, the layer or
// the head that is chosen in the bar.

const panels = [
  {section: 'task', title: 'Training loss', unit: 'nats', scope: 'model',
   hint: 'On the batches the model trains on; noisy, because every batch differs.',
   lines: [{kind: 'train', field: 'loss'}]},
  {section: 'task', title: 'Evaluation loss', unit: 'nats', scope: 'model',
   hint: 'On text the model does not train on.', lines: [{kind: 'eval', field: 'loss'}]},
  {section: 'task', title: 'Backcopy risk', unit: 'nats, log scale', scope: 'model', log: true,
   hint: 'After a trigger the model must copy an earlier character, which takes attention. 0 is perfect.',
   lines: [{kind: 'risk', field: 'backcopy'}]},
  {section: 'task', title: 'Bigram risk', unit: 'nats', scope: 'model',
   hint: 'Elsewhere the next character depends on the present one alone: attention is of no use here.',
   lines: [{kind: 'risk', field: 'bigram'}]},
  {section: 'attention', title: 'Sink attention', unit: 'share', scope: 'head', from: 0,
   hint: 'The share of a query’s attention that goes to position 0.',
   lines: [{kind: 'probe', field: 'sink_attention'}]},
  {section: 'attention', title: 'Sink logit gap', unit: 'logits', scope: 'head',
   hint: 'By how much the score of position 0 exceeds the mean score of the other keys, before normalisation.',
   lines: [{kind: 'probe', field: 'sink_logit_gap'}]},
  {section: 'value', title: 'Value norm', unit: '|v|', scope: 'head', from: 0,
   hint: 'Solid: at position 0. Dashed: mean over the other positions. ' +
         'A solid line that falls far below its dashed one is a value drain.',
   lines: [{kind: 'probe', field: 'value_norm_sink', name: 'position 0'},
           {kind: 'probe', field: 'value_norm_rest', name: 'elsewhere', dashed: true}]},
  {section: 'value', title: 'Value norm through the output projection', unit: '|Wo v|', scope: 'head', from: 0,
   hint: 'What position 0 would add to the residual stream, were it given all of the attention. ' +
         'Dashed, where recorded: elsewhere.',
   lines: [{kind: 'probe', field: 'wo_value_norm_sink', name: 'position 0'},
           {kind: 'probe', field: 'wo_value_norm_rest', name: 'elsewhere', dashed: true}]},
  {section: 'value', title: 'Residual norm', scope: 'layer', from: 0,
   hint: 'The norm of the block’s output. Solid: at position 0. Dashed: mean over the other positions.',
   lines: [{kind: 'probe', field: 'residual_norm_sink', name: 'position 0'},
           {kind: 'probe', field: 'residual_norm_rest', name: 'elsewhere', dashed: true}]},
  {section: 'value', title: 'Tokens that point like the first', unit: 'share', scope: 'layer', from: 0,
   hint: 'Of the block’s output, after position 0: |cosine| above 0.9. Where the first is large these are secondary sinks.',
   lines: [{kind: 'analysis_layer', field: 'secondary_sink_share'}]},
  {section: 'probe', title: 'Sink rate', unit: 'share of heads and sequences', scope: 'model', from: 0,
   hint: 'Solid: a sink on position 0. Dashed: on some position.',
   lines: [{kind: 'analysis', field: 'sink_rate', name: 'position 0'},
           {kind: 'analysis', field: 'sink_rate_any', name: 'any position', dashed: true}]},
  {section: 'probe', title: 'Value norm, first / rest', unit: 'mean of heads', scope: 'model', from: 0,
   hint: '1: the first value is like the others. Dashed: the head where it is least.',
   lines: [{kind: 'analysis', field: 'value_norm_ratio', name: 'mean'},
           {kind: 'analysis', field: 'value_norm_ratio_least', name: 'least', dashed: true}]},
  {section: 'probe', title: 'Kurtosis of attention’s output', unit: 'mean of layers', scope: 'model',
   hint: 'After the output projection. 3 is a normal distribution; outliers, which quantization suffers from, raise it.',
   lines: [{kind: 'analysis', field: 'kurtosis'}]},
  {section: 'probe', title: 'Massive activations', unit: 'largest |residual|, mean of layers', scope: 'model', from: 0,
   hint: 'The largest element of the blocks’ outputs.', lines: [{kind: 'analysis', field: 'massive_activation'}]},
  {section: 'gradient', title: 'Gradient at attention’s input, first / rest', unit: '|dL/dx|', scope: 'layer', from: 0,
   hint: 'At the norm’s output. Far above 1: a gradient sink.',
   lines: [{kind: 'analysis_layer', field: 'input_gradient_ratio'}]},
  {section: 'gradient', title: 'Gradient of the value, first / rest', unit: '|dL/dv|', scope: 'head', from: 0,
   hint: 'How much harder training pushes the value at position 0 than the others.',
   lines: [{kind: 'analysis_head', field: 'value_gradient_ratio'}]},
  {section: 'gradient', title: 'The same, by attention received', unit: 'ratio of ratios', scope: 'head', from: 0,
   hint: '1: the gradient is in proportion to the attention that the position receives.',
   lines: [{kind: 'analysis_head', field: 'value_gradient_per_mass'}]},
  {section: 'gradient', title: 'Its two paths, at position 0', unit: '|dL/dv|, log scale', scope: 'head', log: true,
   hint: 'Where a gate reads the values. Solid: through the values attended to. Dashed: through the gate.',
   lines: [{kind: 'analysis_head', field: 'content_gradient_first', name: 'content'},
           {kind: 'analysis_head', field: 'gate_gradient_first', name: 'gate', dashed: true}]},
  {section: 'gradient', title: 'Pull along the value', unit: 'dL/dv · v / |v|', scope: 'head',
   hint: 'Above 0, gradient descent shortens the value. Solid: position 0. Dashed: elsewhere.',
   lines: [{kind: 'analysis_head', field: 'value_gradient_radial_first', name: 'position 0'},
           {kind: 'analysis_head', field: 'value_gradient_radial_rest', name: 'elsewhere', dashed: true}]},
  {section: 'gate', title: 'Gate opening', unit: '0 closed, 1 open', scope: 'head', from: 0, to: 1,
   hint: 'Solid: mean over all positions. Dashed: at position 0.',
   lines: [{kind: 'gate', field: 'mean', name: 'mean'},
           {kind: 'gate', field: 'mean_sink', name: 'position 0', dashed: true}]},
  {section: 'gate', title: 'Gates nearly closed', unit: 'share below 0.1', scope: 'head', from: 0, to: 1,
   hint: 'How often the head is shut off.', lines: [{kind: 'gate', field: 'closed_share'}]},
];

const cssColour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const groupColour = group => cssColour('--c' + group % 8);

function formatNumber(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2).replace('e+', 'e');
  return String(Number(value.toPrecision(4)));
}

// Where a panel's figures are from, with its separator; nothing for the whole model, or where there is but one place.
function placeText({layer, head, layers, heads}, scope) {
  const names = [];
  if (scope !== 'model' && layers > 1) names.push(`layer ${layer}`);
  if (scope === 'head' && heads > 1) names.push(`head ${head}`);
  return names.length ? ' · ' + names.join(', ') : '';
}

function readableStep(step) { return 'step ' + step.toLocaleString('en-US'); }

// One reading a dataset, the nearest in x: the runs need not be logged at the same steps.
Chart.Interaction.modes.nearestOfEach = (chart, event) => {
  const items = [];
  chart.getSortedVisibleDatasetMetas().forEach(meta => {
    if (meta._dataset.silent) return;
    let best = -1, distance = Infinity;
    meta.data.forEach((element, index) => {
      const d = Math.abs(element.x - event.x);
      if (d < distance && !element.skip) { best = index; distance = d; }
    });
    if (best >= 0 && distance < 40) items.push({element: meta.data[best], datasetIndex: meta.index, index: best});
  });
  return items.sort((a, b) => a.datasetIndex - b.datasetIndex);
};

const guideLine = {
  id: 'guideLine',
  afterDraw(chart) {
    const active = chart.getActiveElements();
    if (!active.length) return;
    const {ctx, chartArea} = chart, x = active[0].element.x;
    ctx.save();
    ctx.strokeStyle = cssColour('--soft');
    ctx.globalAlpha = .5;
    ctx.beginPath();
    ctx.moveTo(x, chartArea.top);
    ctx.lineTo(x, chartArea.bottom);
    ctx.stroke();
    ctx.restore();
  },
};

class Charts {
  constructor(data, state) {
    this.data = data;
    this.state = state;
    this.series = data.runs.map(run => {
      const byKey = new Map();
      run.series.forEach(s => byKey.set([s.kind, s.field, s.layer, s.head].join(), s));
      return byKey;
    });
    this.charts = [];
    // Figures that the data describe and no panel above draws: of the head that is chosen, or of the model.
    const drawn = new Set(panels.flatMap(panel => panel.lines.map(line => line.field)));
    this.panels = panels.concat(data.figures.filter(figure => !drawn.has(figure.key)).map(figure => ({
      section: 'probe', title: figure.title, scope: figure.of_heads ? 'head' : 'model', hint: figure.meaning,
      lines: [{kind: figure.of_heads ? 'analysis_head' : 'analysis', field: figure.key}]})));
    this.xTitle = 'step';
    this.allowLogX = true;
  }

  find(run, line, scope) {
    const {layer, head} = this.state;
    const place = scope === 'head' ? [layer, head] : scope === 'layer' ? [layer, -1] : [-1, -1];
    return this.series[run].get([line.kind, line.field, ...place].join());
  }

  // Whether any layer and head has data, so that a panel stays when another head is chosen.
  hasData(panel) {
    return this.data.runs.some(run => run.series.some(
        s => panel.lines.some(line => line.kind === s.kind && line.field === s.field)));
  }

  get logX() { return this.allowLogX && this.state.logSteps; }

  readableX(x) { return readableStep(x); }

  points(series, panel) {
    const steps = this.data.step_lists[series.steps];
    const usable = (x, y) => (!this.logX || x > 0) && (!panel.log || y === null || y > 0);
    return series.values.map((y, i) => ({x: steps[i], y: y === null ? NaN : y})).filter(p => usable(p.x, p.y));
  }

  // The mean over seeds, at the steps that all of them have; nothing for a single run.
  meanPoints(all) {
    const sums = new Map();
    all.forEach(points => points.forEach(p => {
      const entry = sums.get(p.x) || {sum: 0, count: 0};
      entry.sum += p.y;
      entry.count += 1;
      sums.set(p.x, entry);
    }));
    return [...sums].filter(([, e]) => e.count === all.length).map(([x, e]) => ({x, y: e.sum / e.count}))
                    .sort((a, b) => a.x - b.x);
  }

  datasets(panel) {
    const out = [];
    this.data.groups.forEach((group, g) => panel.lines.forEach(line => {
      if (this.state.hidden.has(g)) return;
      const all = group.runs.map(run => ({run: this.data.runs[run], series: this.find(run, line, panel.scope)}))
                            .filter(({series}) => series)
                            .map(({run, series}) => ({run, points: this.points(series, panel)}))
                            .filter(({points}) => points.length);
      if (!all.length) return;
      const label = name => name + (line.name ? ', ' + line.name : '');
      const style = {borderColor: groupColour(g), backgroundColor: groupColour(g), borderWidth: 1.8,
                     borderDash: line.dashed ? [6, 4] : [], label: label(group.label)};
      if (all.length === 1) return out.push({...style, data: all[0].points});
      if (panel.scope === 'head' && this.state.heads > 1) {
        all.forEach(({run, points}) => out.push({...style, data: points, borderWidth: 1.2, label: label(run.label)}));
        return;
      }
      all.forEach(({points}) => out.push({...style, data: points, borderWidth: 1, silent: true,
                                          borderColor: groupColour(g) + '59'}));
      out.push({...style, data: this.meanPoints(all.map(({points}) => points)), borderWidth: 2.2,
                label: style.label + ' (mean)'});
    }));
    // A lonely point draws no line.
    return out.map(d => ({...d, pointRadius: d.data.length > 1 ? 0 : 3, pointHoverRadius: d.silent ? 0 : 4}));
  }

  options(panel) {
    const grid = {color: cssColour('--line'), borderColor: cssColour('--line'), tickColor: 'transparent'};
    const ticks = {color: cssColour('--soft'), maxTicksLimit: 7, maxRotation: 0};
    const isPower = value => Math.abs(Math.log10(value) - Math.round(Math.log10(value))) < 1e-6;
    const logTicks = {...ticks, maxTicksLimit: undefined, autoSkip: false,
                      callback: value => isPower(value) ? formatNumber(value).replace('1.00e', '1e') : ''};
    const logGrid = {...grid, color: context => isPower(context.tick.value) ? cssColour('--line') : 'transparent'};
    return {
      animation: false, responsive: true, maintainAspectRatio: false, parsing: false, normalized: true,
      interaction: {mode: 'nearestOfEach'},
      scales: {
        x: {type: this.logX ? 'logarithmic' : 'linear',
            grid: this.logX ? logGrid : grid, min: this.logX ? undefined : 0,
            max: this.lastStep(), title: {display: true, text: this.xTitle, color: cssColour('--soft'), padding: 0},
            ticks: this.logX ? logTicks : {...ticks, callback: v => v.toLocaleString('en-US')}},
        y: {type: panel.log ? 'logarithmic' : 'linear', min: panel.from, max: panel.to,
            grid: panel.log ? logGrid : grid,
            ticks: panel.log ? logTicks : {...ticks, callback: v => formatNumber(v)}},
      },
      plugins: {
        legend: {display: false},
        tooltip: {
          backgroundColor: cssColour('--ink'), titleColor: cssColour('--page'), bodyColor: cssColour('--page'),
          padding: 8, boxWidth: 9, boxHeight: 9, boxPadding: 4, caretSize: 0, caretPadding: 12,
          callbacks: {
            title: items => items.length ? this.readableX(items[0].raw.x) : '',
            label: item => item.dataset.label + ': ' + formatNumber(item.raw.y),
            labelColor: item => ({backgroundColor: item.dataset.backgroundColor, borderWidth: 0}),
          },
        },
      },
    };
  }

  lastStep() { return Math.max(1, ...this.data.step_lists.map(list => list[list.length - 1] || 0)); }

  build() {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    this.panels.filter(panel => this.hasData(panel)).forEach(panel => {
      const section = document.querySelector(`[data-charts="${panel.section}"]`);
      section.hidden = false;
      const caption = element('span');
      const figure = element('figure', {}, [
        element('figcaption', {}, [
          element('h3', {}, [panel.title, caption]),
          element('p', {}, [panel.hint]),
        ]),
      ]);
      const canvas = element('canvas', {role: 'img', 'aria-label': `${panel.title} over ${this.xTitle}s`});
      figure.append(element('div', {class: 'plot'}, [canvas]));
      section.querySelector('.charts').append(figure);
      this.charts.push({panel, caption, chart: new Chart(canvas, {
        type: 'line', data: {datasets: this.datasets(panel)}, options: this.options(panel), plugins: [guideLine]})});
    });
  }

  update() {
    this.charts.forEach(({panel, caption, chart}) => {
      caption.textContent = (panel.unit ? ' · ' + panel.unit : '') + placeText(this.state, panel.scope);
      chart.data.datasets = this.datasets(panel);
      chart.options = this.options(panel);
      chart.update('none');
    });
  }
}

