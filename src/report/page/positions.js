// Curves over positions, from each run's newest full analysis (docs/analysis.md): what a position receives, carries and is
// taught, averaged over sequences. Drawn as the curves over steps are, with the position in the step's place.

const positionPanels = [
  {title: 'Attention received', unit: 'mean weight', scope: 'head', from: 0, lines: [{curve: 'attention'}],
   hint: 'The mean weight that the queries which see a position put on it. A sink stands out at the left.'},
  {title: 'Value norm', unit: '|v|', scope: 'head', from: 0, lines: [{curve: 'value_norm'}],
   hint: 'What a position has to give. A dip at a sink is a value drain.'},
  {title: 'Gate opening', unit: '0 closed, 1 open', scope: 'head', from: 0, to: 1, lines: [{curve: 'gate'}],
   hint: 'Of the gate at the position’s own row, or of its value.'},
  {title: 'Gradient of the value', unit: '|dL/dv|, log scale', scope: 'head', log: true,
   hint: 'How hard training pushes the value at each position. Dashed, where a gate reads the values: the part that comes ' +
         'through the gate.',
   lines: [{curve: 'value_gradient', name: 'all'}, {curve: 'gate_gradient', name: 'through the gate', dashed: true}]},
  {title: 'Residual norm', scope: 'layer', from: 0, lines: [{curve: 'residual_norm'}],
   hint: 'The norm of the block’s output. A peak at the first position goes with a sink.'},
];

class PositionCharts extends Charts {
  constructor(data, state) {
    super(data, state);
    this.panels = positionPanels.map(panel => ({...panel, section: 'positions'}));
    this.xTitle = 'position';
    this.allowLogX = false;
  }

  curve(run, name, layer, head) {
    const analysis = this.data.runs[run].analysis;
    if (!analysis) return undefined;
    if (name === 'residual_norm') return analysis.residual_norm[layer + 1];  // the embedding's output is the first
    const found = analysis.curves.find(c => c.layer === layer && c.head === head);
    return found && found[name];
  }

  find(run, line) { return this.curve(run, line.curve, this.state.layer, this.state.head); }

  hasData(panel) {
    return this.data.runs.some(run => run.analysis && panel.lines.some(
        line => line.curve === 'residual_norm' || run.analysis.curves.some(c => c[line.curve])));
  }

  points(values, panel) {
    return values.map((y, x) => ({x, y: y === null ? NaN : y})).filter(p => !panel.log || p.y > 0 || Number.isNaN(p.y));
  }

  lastStep() {
    return Math.max(1, ...this.data.runs.map(run => run.analysis ? run.analysis.residual_norm[0].length - 1 : 0));
  }

  readableX(x) { return 'position ' + x; }
}
