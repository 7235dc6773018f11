'use strict';

const fs = require('node:fs');
const path = require('node:path');

/** The name of an axis's plot. */
function file(axis) {
  return `scaling-${axis.name.replaceAll(/[^a-z]+/g, '-')}.svg`;
}

/**
 * Draws one plot for each axis.
 *
 * @param {import('./report.js').Result[]} results
 * @param {string} folder
 */
async function draw(results, folder) {
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]);
  fs.mkdirSync(folder, { recursive: true });
  for (const { axis, lines } of results) {
    const { spec } = vegaLite.compile(chart(axis, lines));
    const view = new vega.View(vega.parse(spec), { renderer: 'none' });
    fs.writeFileSync(path.join(folder, file(axis)), `${await view.toSVG()}\n`);
    view.finalize();
  }
}

function chart(axis, lines) {
  const values = lines.flatMap(({ server, points }) => points.map(({ step, cost }) => ({ server, step, cost })));
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    title: `CPU time for a delivery, by ${axis.name}`,
    background: 'white',
    width: 560,
    height: 260,
    data: { values },
    mark: { type: 'line', point: true },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: axis.unit, scale: { type: 'log', nice: false }, axis: { values: axis.steps, format: ',d', labelOverlap: false } },
      y: { field: 'cost', type: 'quantitative', title: 'µs', scale: { zero: true } },
      color: { field: 'server', type: 'nominal', title: null, sort: null, legend: { orient: 'bottom' } },
    },
  };
}

module.exports = { draw, file };
