// Attention maps on canvas: row = query, column = key, the tokens on both axes, before and after training. Pointing at
// a cell reads it out under every map, so that variants can be compared on the same pair of tokens. Colours run over
// the square root of the weight, for most weights are small.

const kRamp = ['#440154', '#482878', '#3e4a89', '#31688e', '#26828e',
               '#1f9e89', '#35b779', '#6ece58', '#b5de2b', '#fde725']
    .map(hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)));

function rampColour(share) {
  const at = Math.sqrt(Math.min(Math.max(share, 0), 1)) * (kRamp.length - 1);
  const low = Math.min(Math.floor(at), kRamp.length - 2), mix = at - low;
  return `rgb(${kRamp[low].map((c, i) => Math.round(c + (kRamp[low + 1][i] - c) * mix)).join()})`;
}

const kDigits = new Map([...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'].map((c, i) => [c, i]));

// The weight of query i on key j; the codes hold the lower triangle row by row, or whole rows of n keys.
function mapWeight(map, n, i, j) {
  const at = 2 * ((map.whole ? i * n : i * (i + 1) / 2) + j);
  const code = 64 * kDigits.get(map.codes[at]) + kDigits.get(map.codes[at + 1]);
  return map.low + code / 4095 * (map.high - map.low);
}

function visibleToken(token) {
  const shown = token.replace(/\n/g, '⏎').replace(/\t/g, '⇥').replace(/ /g, '␣');
  return shown.length > 7 ? shown.slice(0, 6) + '…' : shown;
}

class AttentionMap {
  // `gateRoom`: cells left free for the gate's strip, the same in every map so that they line up.
  constructor(snapshot, name, variant, gateRoom, onPoint) {
    this.snapshot = snapshot;
    this.name = name;
    this.gateRoom = gateRoom;
    this.title = element('h4');
    this.canvas = element('canvas', {role: 'img', 'aria-label': `${variant}, attention at ${name}`});
    this.readout = element('output', {}, ['']);
    const point = event => onPoint(this.cellAt(event));
    this.canvas.addEventListener('pointermove', point);
    this.canvas.addEventListener('pointerdown', point);
    this.canvas.addEventListener('pointerleave', () => onPoint(null));
  }

  choose(state) {
    this.map = this.snapshot.maps.find(m => m.layer === state.layer && m.head === state.head);
    this.title.textContent = this.name + placeText(state, 'head');
  }

  layout() {
    const labels = this.snapshot.tokens.map(visibleToken), n = labels.length;
    const width = this.canvas.clientWidth || 360;
    const longest = Math.max(...labels.map(label => [...label].length));
    const font = Math.min(11, Math.max(7, width / (n + 3 + this.gateRoom)));
    const margin = Math.ceil(longest * font * .62 + 5), cell = (width - margin) / (n + this.gateRoom);
    return {labels, n, width, cell, font, margin, height: margin + n * cell + 1};
  }

  cellAt(event) {
    const box = this.canvas.getBoundingClientRect(), {margin, cell, n} = this.layout();
    const j = Math.floor((event.clientX - box.left - margin) / cell);
    const i = Math.floor((event.clientY - box.top - margin) / cell);
    return i >= 0 && i < n && j >= 0 && j < (this.map?.whole ? n : i + 1) ? {i, j} : null;
  }

  draw(point) {
    const place = this.layout(), {labels, n, width, cell, font, margin, height} = place;
    const ratio = window.devicePixelRatio || 1, ctx = this.canvas.getContext('2d');
    this.canvas.style.height = height + 'px';
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    ctx.scale(ratio, ratio);
    ctx.font = font + 'px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace';
    ctx.textAlign = 'right';
    ctx.textBaseline = 'middle';
    labels.forEach((label, k) => {
      ctx.fillStyle = cssColour(point && point.i === k ? '--ink' : '--soft');
      ctx.fillText(label, margin - 3, margin + (k + .5) * cell);
      ctx.save();
      ctx.fillStyle = cssColour(point && point.j === k ? '--ink' : '--soft');
      ctx.translate(margin + (k + .5) * cell, margin - 3);
      if ([...label].length > 1) {
        ctx.rotate(-Math.PI / 2);
        ctx.textAlign = 'left';
        ctx.fillText(label, 0, 0);
      } else {
        ctx.textAlign = 'center';
        ctx.textBaseline = 'bottom';
        ctx.fillText(label, 0, 0);
      }
      ctx.restore();
    });
    this.drawCells(ctx, place, ratio);
    if (point && point.i < n && this.map) {
      ctx.strokeStyle = '#ffffff';
      ctx.lineWidth = 1.5;
      ctx.strokeRect(margin + point.j * cell, margin + point.i * cell, cell, cell);
    }
    this.readOut(point);
  }

  drawCells(ctx, {n, cell, margin, width}, ratio) {
    const snap = x => Math.round(x * ratio) / ratio;  // whole pixels, or seams show between the cells
    const edge = k => snap(margin + k * cell);
    const fillCell = (j, i) => ctx.fillRect(edge(j), edge(i), edge(j + 1) - edge(j), edge(i + 1) - edge(i));
    if (!this.map) {
      ctx.textAlign = 'left';
      ctx.fillStyle = cssColour('--soft');
      ctx.fillText('no map of this head', margin + 8, margin + 12);
      return;
    }
    for (let i = 0; i < n; ++i) {
      for (let j = 0; j < (this.map.whole ? n : i + 1); ++j) {
        ctx.fillStyle = rampColour(mapWeight(this.map, n, i, j) / Math.max(1, this.map.high));
        fillCell(j, i);
      }
      if (!this.map.gate) continue;
      ctx.fillStyle = rampColour(this.map.gate[i]);
      fillCell(n + 1, i);
      fillCell(n + 2, i);
    }
    if (!this.map.gate) return;
    ctx.fillStyle = cssColour('--soft');
    ctx.textAlign = 'right';
    ctx.fillText('gate', width, margin - 8);
  }

  readOut(point) {
    const tokens = this.snapshot.tokens, quoted = k => `${visibleToken(tokens[k])} (${k})`;
    if (!point || !this.map || point.i >= tokens.length) {
      this.readout.textContent = '';
      return;
    }
    const weight = formatNumber(Number(mapWeight(this.map, tokens.length, point.i, point.j).toPrecision(3)));
    const gate = this.map.gate ? ` · gate ${formatNumber(this.map.gate[point.i])}` : '';
    this.readout.textContent = `query ${quoted(point.i)} → key ${quoted(point.j)}: ${weight}${gate}`;
  }
}

class AttentionMaps {
  constructor(data, state) {
    this.data = data;
    this.state = state;
    this.maps = [];
    this.figures = [];
  }

  build() {
    const gateRoom = this.anyGate() ? 3 : 0;
    const section = document.getElementById('maps'), place = section.querySelector('.maps');
    this.data.groups.forEach((group, g) => {
      const mean = run => run.analysis && run.analysis.mean_attention;
      const run = this.data.runs[group.runs.find(r => this.data.runs[r].attention.last || mean(this.data.runs[r]))];
      if (!run) return;
      const seeds = group.runs.length > 1 ? ` (${run.label})` : '';
      const figure = element('figure', {'data-group': g}, [
        element('h3', {}, [element('i', {class: 'swatch', 'data-group': g}), group.label + seeds])]);
      const pair = element('div', {class: 'pair'});
      figure.append(pair);
      const {first, last} = run.attention;
      const shots = !last ? [] : first.step === last.step ? [['', last]] : [['Before', first], ['After', last]];
      if (mean(run)) shots.push([`Mean of ${run.analysis.sequences} sequences`, mean(run)]);
      shots.forEach(([when, snapshot]) => {
        const name = (when ? when + ' · ' : '') + readableStep(snapshot.step);
        const map = new AttentionMap(snapshot, name, group.label, gateRoom, point => this.draw(point));
        pair.append(element('div', {}, [map.title, map.canvas, map.readout]));
        this.maps.push(map);
      });
      place.append(figure);
      this.figures.push({group: g, figure});
    });
    if (!this.maps.length) return;
    section.hidden = false;
    document.getElementById('maps-intro').textContent = this.intro();
    this.drawScale();
    this.update();
    let width = window.innerWidth;
    window.addEventListener('resize', () => {
      if (window.innerWidth !== width) this.draw(null);
      width = window.innerWidth;
    });
  }

  anyGate() {
    return this.data.runs.some(run => Object.values(run.attention).some(shot => shot && shot.maps.some(m => m.gate)));
  }

  intro() {
    const task = this.data.runs.some(run => run.config.data && run.config.data.type === 'bigram_backcopy');
    return 'How much each token (a row) looks at each token that it sees (a column). A bright first column is a sink. ' +
        (task ? 'In this task a trigger’s row should look one step back, just left of the diagonal; all other rows need ' +
                'nothing, and show where attention goes that has nothing to do. ' : '') +
        (this.anyGate() ? 'The strip beside a map is the gate at each position. ' : '') +
        'Point at a cell to read the same pair in every map.';
  }

  drawScale() {
    const canvas = element('canvas', {width: 220, height: 12}), ctx = canvas.getContext('2d');
    for (let x = 0; x < 220; ++x) {
      ctx.fillStyle = rampColour((x / 219) ** 2);
      ctx.fillRect(x, 0, 1, 12);
    }
    document.getElementById('map-scale').append('0', canvas, '1');
    document.getElementById('map-scale').append(' weight (the middle of the scale is 0.25)');
  }

  draw(point) { this.maps.forEach(map => map.draw(point)); }

  update() {
    this.figures.forEach(({group, figure}) => { figure.hidden = this.state.hidden.has(group); });
    this.maps.forEach(map => map.choose(this.state));
    this.draw(null);
  }
}

