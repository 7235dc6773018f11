'use strict';

// When frond.js connects again, when it stops, and what a page that is left does.

const { FAST, connect, kill, listen, net, next, pause, until, useNetwork } = require('./frond-page');

useNetwork();

describe('reconnecting', () => {
  test('attempts count from 1, each announced when it begins, then reconnect_failed', async () => {
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 3 });
    await next(ws, 'open');
    const events = [];
    ws.on('close', (code) => events.push(`close ${code}, ${ws.status}`));
    ws.on('reconnect', (attempt) => events.push(`reconnect ${attempt}, ${ws.status}`));
    ws.on('error', () => events.push('error'));
    ws.on('reconnect_failed', () => events.push(`failed, ${ws.status}`));
    const failed = next(ws, 'reconnect_failed');
    await pause(40);
    await kill();
    await failed;
    await pause(80);
    expect(events).toEqual([
      'close 1006, reconnecting',
      'reconnect 1, reconnecting',
      'error',
      'reconnect 2, reconnecting',
      'error',
      'reconnect 3, reconnecting',
      'error',
      'failed, closed',
    ]);
    await listen();
  });

  test('a page whose server is not there yet connects when it is', async () => {
    const freed = net.port;
    await kill();
    const { ws } = connect('/ws/x', FAST);
    const closes = [];
    ws.on('close', () => closes.push(1));
    expect(ws.status).toBe('connecting');
    await next(ws, 'reconnect');
    await listen({ port: freed });
    await next(ws, 'open');
    expect(ws.status).toBe('open');
    expect(closes).toEqual([]);
  });

  test('a page refused after the upgrade gives up, with one close for each connection', async () => {
    net.server.on('connection', (peer) => peer.close(4401, 'no token'));
    const { ws } = connect('/ws/x', { reconnectInterval: 60, maxReconnectAttempts: 3 });
    const attempts = [];
    const closes = [];
    ws.on('reconnect', (attempt) => attempts.push(attempt));
    ws.on('close', (code, reason) => closes.push([code, reason]));
    await next(ws, 'reconnect_failed');
    expect(attempts).toEqual([1, 2, 3]);
    expect(closes).toEqual(Array(4).fill([4401, 'no token']));
    expect(net.seen).toHaveLength(4);
  });

  test('a page refused at the upgrade gives up without a close', async () => {
    await kill();
    await listen({ verifyClient: (info, done) => done(false, 401, 'no') });
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 2 });
    const closes = [];
    ws.on('close', () => closes.push(1));
    await next(ws, 'reconnect_failed');
    expect(closes).toEqual([]);
    expect(ws.status).toBe('closed');
  });

  test('the count begins anew once a connection has lasted longer than the interval', async () => {
    const { ws } = connect('/ws/x', { reconnectInterval: 30, maxReconnectAttempts: 2 });
    const attempts = [];
    ws.on('reconnect', (attempt) => attempts.push(attempt));
    for (let round = 1; round <= 4; round++) {
      await until(() => net.seen.length === round && ws.status === 'open', `connection ${round}`);
      await pause(60);
      net.seen[round - 1].terminate();
    }
    await until(() => net.seen.length === 5, 'the fifth connection');
    expect(attempts).toEqual([1, 1, 1, 1]);
  });

  test('waits are the interval, give or take 20 %', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectInterval: 10, maxReconnectAttempts: 12 });
    await next(ws, 'reconnect_failed');
    expect(page.delays).toHaveLength(12);
    for (const delay of page.delays) {
      expect(delay).toBeGreaterThanOrEqual(8);
      expect(delay).toBeLessThanOrEqual(12);
    }
    expect(new Set(page.delays).size).toBeGreaterThan(1);
    await listen();
  });

  test('reconnectDelay doubles up to maxReconnectDelay', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectDelay: 4, maxReconnectDelay: 20, maxReconnectAttempts: 5 });
    await next(ws, 'reconnect_failed');
    const expected = [4, 8, 16, 20, 20];
    expect(page.delays).toHaveLength(expected.length);
    page.delays.forEach((delay, i) => {
      expect(delay).toBeGreaterThanOrEqual(expected[i] * 0.8);
      expect(delay).toBeLessThanOrEqual(expected[i] * 1.2);
    });
    await listen();
  });

  test('maxReconnectDelay alone lets reconnectInterval double', async () => {
    await kill();
    const { page, ws } = connect('/ws/x', { reconnectInterval: 4, maxReconnectDelay: 9, maxReconnectAttempts: 3 });
    await next(ws, 'reconnect_failed');
    const expected = [4, 8, 9];
    page.delays.forEach((delay, i) => expect(Math.abs(delay - expected[i])).toBeLessThanOrEqual(expected[i] * 0.2));
    await listen();
  });

  test('the defaults are 3 seconds and 10 attempts, ± 20 %', async () => {
    await kill();
    const { page, ws } = connect('/ws/x');
    await until(() => page.delays.length === 1, 'the first loss');
    expect(page.delays[0]).toBeGreaterThanOrEqual(2400);
    expect(page.delays[0]).toBeLessThanOrEqual(3600);
    ws.close();
    page.scope.setTimeout = (run) => setTimeout(run); // every wait is over at once
    const eager = page.frond.ws('/ws/x');
    const attempts = [];
    eager.on('reconnect', (attempt) => attempts.push(attempt));
    await next(eager, 'reconnect_failed');
    expect(attempts).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    await listen();
  });

  test('reconnect: false is one connection and no reconnect_failed', async () => {
    const { ws } = connect('/ws/x', { ...FAST, reconnect: false });
    const events = [];
    ws.on('reconnect', () => events.push('reconnect'));
    ws.on('reconnect_failed', () => events.push('failed'));
    ws.on('close', () => events.push(`close, ${ws.status}`));
    await next(ws, 'open');
    net.seen[0].close(1001);
    await next(ws, 'close');
    await pause(60);
    expect(events).toEqual(['close, closed']);
    expect(net.seen).toHaveLength(1);
  });

  test('maxReconnectAttempts: 0 fails at the first loss', async () => {
    const { ws } = connect('/ws/x', { ...FAST, maxReconnectAttempts: 0 });
    await next(ws, 'open');
    net.seen[0].terminate();
    await next(ws, 'reconnect_failed');
    expect(net.seen).toHaveLength(1);
  });

  test.each([
    ['reconnectInterval', -1],
    ['reconnectInterval', '3000'],
    ['maxReconnectAttempts', NaN],
    ['reconnectDelay', null],
    ['maxReconnectDelay', {}],
  ])('option %s: %p is refused by name', (name, value) => {
    expect(() => connect('/ws/x', { [name]: value })).toThrow(new RegExp(`${name} must be a number from 0 up`));
  });
});

describe('#close', () => {
  test('ends the connection with its code and reason and stays closed', async () => {
    const { ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const ended = new Promise((resolve) => net.seen[0].once('close', (code, reason) => resolve([code, String(reason)])));
    const closed = next(ws, 'close');
    ws.close(4000, 'enough');
    expect(ws.status).toBe('closed');
    expect(await ended).toEqual([4000, 'enough']);
    expect(await closed).toEqual([4000, 'enough']);
    await pause(60);
    expect(net.seen).toHaveLength(1);
  });

  test('uses 1000 without arguments; a second close is nothing', async () => {
    const { ws } = connect();
    await next(ws, 'open');
    const closes = [];
    ws.on('close', (code) => closes.push(code));
    ws.close();
    ws.close(4000);
    await until(() => closes.length, 'close');
    await pause(20);
    expect(closes).toEqual([1000]);
  });

  test('before the first open: no open, no close, no attempt', async () => {
    const { ws } = connect('/ws/x', FAST);
    const events = [];
    for (const event of ['open', 'close', 'reconnect', 'reconnect_failed']) ws.on(event, () => events.push(event));
    ws.close();
    await pause(80);
    expect(events).toEqual([]);
    expect(ws.status).toBe('closed');
  });

  test.each(['close', 'reconnect', 'open'])('in a %s listener it stops reconnecting', async (event) => {
    const { ws } = connect('/ws/x', FAST);
    if (event === 'open') ws.on('open', () => ws.close());
    await until(() => net.seen.length === 1, 'the connection');
    if (event !== 'open') {
      ws.on(event, () => ws.close());
      if (ws.status !== 'open') await next(ws, 'open');
      net.seen[0].terminate();
    }
    await pause(100);
    expect(ws.status).toBe('closed');
    expect(net.seen).toHaveLength(1);
  });

  test('while reconnecting: what was buffered is dropped and said so', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    net.seen[0].terminate();
    await closed;
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    ws.send('a');
    ws.send('b');
    ws.close();
    expect(errors).toEqual(['frond.ws: 2 buffered message(s) dropped, the connection is closed']);
    expect(page.warnings).toEqual(errors);
    await pause(80);
    expect(net.seen).toHaveLength(1);
  });

  test('send afterwards is dropped with a warning and an error event', async () => {
    const { page, ws } = connect();
    const errors = [];
    ws.on('error', (error) => errors.push(error.message));
    ws.close();
    expect(ws.send('late')).toBe(false);
    expect(errors).toEqual(['frond.ws: message dropped, the connection is closed']);
    expect(page.warnings).toEqual(errors);
  });

  test('no message is delivered after it', async () => {
    const { ws } = connect();
    const got = [];
    ws.on('message', (data) => {
      got.push(data);
      ws.close();
    });
    await next(ws, 'open');
    net.seen[0].send('one');
    net.seen[0].send('two');
    await next(ws, 'close');
    expect(got).toEqual(['one']);
  });

  test.each([999, 1001, 1006, 2999, 5000, '1000', 3000.5])('code %p is refused and nothing is closed', async (code) => {
    const { ws } = connect();
    await next(ws, 'open');
    expect(() => ws.close(code)).toThrow(/is neither 1000 nor from 3000 to 4999/);
    expect(() => ws.close(1000, 'é'.repeat(62))).toThrow(/over 123 bytes/);
    expect(ws.status).toBe('open');
  });
});

describe('leaving the page', () => {
  test('no attempt is made while the page is away, one when it comes back', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    page.dispatchEvent(new Event('pagehide'));
    net.seen[0].terminate();
    await next(ws, 'close');
    await pause(80);
    expect(net.seen).toHaveLength(1);
    page.dispatchEvent(new Event('pageshow'));
    await next(ws, 'open');
    expect(net.seen).toHaveLength(2);
  });

  test('a wait that has begun is given up', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    net.seen[0].terminate();
    await closed;
    page.dispatchEvent(new Event('pagehide'));
    await pause(80);
    expect(net.seen).toHaveLength(1);
  });

  test('the pageshow of a page that was never away starts no second connection', async () => {
    const { page, ws } = connect('/ws/x', FAST);
    await next(ws, 'open');
    const closed = next(ws, 'close');
    net.seen[0].terminate();
    await closed;
    page.dispatchEvent(new Event('pageshow'));
    await pause(80);
    expect(net.seen).toHaveLength(2);
  });
});
