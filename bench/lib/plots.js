'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { SERVERS } = require('./servers.js');

/** Pixels. */
const PANEL = 260;
const BAR = 22;
const LABEL = 56;
const [OWN, OTHERS] = ['#d9480f', '#8aa1b4'];

/** What a plot of each kind of row shows side by side. */
const PANELS = {
  throughput: ({ unit }) => [
    { title: `${plural(unit)} in a second (more is better)`, value: ({ rate }) => rate, format: ',.0f' },
    { title: `server CPU µs for each ${unit} (less is better)`, value: ({ cost }) => cost, format: '.2f' },
  ],
  latency: () => [
    { title: 'p50, µs (less is better)', value: ({ p50 }) => p50, format: ',.0f' },
    { title: 'p99, µs (less is better)', value: ({ p99 }) => p99, format: ',.0f' },
  ],
  memory: () => [
    { title: 'process, bytes for each, just opened (less is better)', value: ({ open }) => open, format: ',.0f' },
    { title: 'process, after a 64 KiB message (less is better)', value: ({ after }) => after, format: ',.0f' },
    { title: 'kernel, just opened (less is better)', value: ({ kernelOpen }) => kernelOpen, format: ',.0f' },
  ],
};

function plural(unit) {
  return unit === 'delivery' ? 'deliveries' : `${unit}s`;
}

/** The name of a row's plot. */
function file({ name }) {
  return `${name.toLowerCase().replaceAll('×', 'x').replaceAll(/(?<=\d),(?=\d)/g, '').replaceAll(/[^a-z0-9]+/g, '-')}.svg`;
}

/**
 * Draws one plot for each row.
 *
 * @param {import('./summary.js').Result[]} results
 * @param {string} folder Made if it is missing
 */
async function draw(results, folder) {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]);
  fs.mkdirSync(folder, { recursive: true });
  for (const row of new Set(results.map((result) => result.row))) {
    const { spec } = vegaLite.compile(chart(row, results.filter((result) => result.row === row && result.summary !== null)));
    const view = new vega.View(vega.parse(spec), { renderer: 'none' });
    // An element on each line, so that a change shows where it is.
    fs.writeFileSync(path.join(folder, file(row)), `${(await view.toSVG()).replaceAll('><', '>\n<')}\n`);
    view.finalize();
  }
}

function chart(row, results) {
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: { text: row.name, anchor: 'start', fontSize: 15 },
    background: 'white',
    padding: 12,
    spacing: 28,
    config: { view: { stroke: null }, axis: { grid: false } },
    hconcat: PANELS[row.kind](row).map((panel, place) => bars(panel, results, place === 0)),
  };
}

function bars({ title, value, format }, results, named) {
  const values = results.map(({ server, summary }) => ({ server: SERVERS[server].title, own: server === 'tina4', value: value(summary) }));
  const most = Math.max(...values.map((each) => each.value), 0);
  const y = { field: 'server', type: 'nominal', sort: null, title: null, axis: named ? { ticks: false, domain: false, labelFontSize: 12 } : null };
  // The longest bar leaves room for its number.
  const scale = { domain: [0, most > 0 ? most : 1], range: [0, PANEL - LABEL], clamp: true };
  const x = { field: 'value', type: 'quantitative', axis: null, scale };
  return {
    title: { text: title, anchor: 'start', fontSize: 12, fontWeight: 'normal' },
    width: PANEL,
    height: { step: BAR },
    data: { values },
    encoding: { y, x },
    layer: [
      { mark: { type: 'bar', height: BAR - 6 }, encoding: { color: { condition: { test: 'datum.own', value: OWN }, value: OTHERS } } },
      { mark: { type: 'text', align: 'left', dx: 4, fontSize: 12 }, encoding: { text: { field: 'value', format } } },
    ],
  };
}

module.exports = { draw, file };
