import type { Role, SimulatedCluster } from "./cluster.js";
import { natsName } from "./nats.js";

/** How often each kind of fault comes, relative to the others. */
const weights = {
  kill: 6,
  powerLoss: 4,
  killNats: 2,
  killAll: 1,
  partition: 3,
  isolate: 2,
  pause: 3,
  slowDisk: 2,
  fullDisk: 2,
  brokenDisk: 2,
  lostAnswers: 2,
  duplicates: 1,
  clockStep: 2,
} as const;

type FaultKind = keyof typeof weights;

/** Those after which everybody who is up still reaches everybody. */
const calmKinds: readonly FaultKind[] = ["kill", "powerLoss", "slowDisk", "fullDisk", "clockStep"];

/** Faults as chance has them, each with its end; all are over when `heal` resolves. */
export class Faults {
  readonly #cluster: SimulatedCluster;
  /** What ends a fault that is going on. */
  readonly #ends = new Set<() => void>();
  /** Each kind that came, with how often. */
  readonly counts: Partial<Record<FaultKind, number>> = {};
  readonly #isCalm: boolean;

  /** With `isCalm`, connections stay and NATS is up, so that more can be said of what is read. */
  constructor(cluster: SimulatedCluster, isCalm: boolean) {
    this.#cluster = cluster;
    this.#isCalm = isCalm;
  }

  /** Lets `count` faults come within `spanMs`. */
  schedule(count: number, spanMs: number): void {
    const { world } = this.#cluster;
    for (let i = 0; i < count; i++) world.after(world.random.float() * spanMs, () => this.#strike());
  }

  /** Ends what is going on, and starts what is down. */
  async heal(): Promise<void> {
    const { world, nats, network } = this.#cluster;
    for (const end of [...this.#ends]) end();
    this.#ends.clear();
    network.heal();
    network.faults.lostAnswerShare = 0;
    network.faults.duplicateShare = 0;
    world.trace("faults", "all is healed");
    if (nats.process === undefined) await nats.start();
    for (const node of this.#cluster.nodes.values()) if (node.process === undefined) this.#cluster.start(node.name);
  }

  #strike(): void {
    const kind = this.#kind();
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    this.#cluster.world.trace("faults", kind);
    this.#actions[kind]();
  }

  #kind(): FaultKind {
    const all = Object.entries(weights) as [FaultKind, number][];
    const entries = this.#isCalm ? all.filter(([kind]) => calmKinds.includes(kind)) : all;
    let left = this.#cluster.world.random.below(entries.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [kind, weight] of entries) {
      left -= weight;
      if (left < 0) return kind;
    }
    return "kill";
  }

  readonly #actions: Record<FaultKind, () => void> = {
    kill: () => this.#kill(this.#node(), false),
    powerLoss: () => this.#kill(this.#node("shard"), true),
    killNats: () => this.#killNats(),
    killAll: () => {
      const losesPower = this.#chance(0.5);
      for (const name of this.#cluster.names()) this.#kill(name, losesPower);
      this.#killNats(losesPower);
    },
    partition: () => {
      const names = [...this.#cluster.names(), natsName];
      const [a, b] = [this.#oneOf(names), this.#oneOf(names)];
      if (a === b) return;
      this.#cluster.network.cut(a, b);
      if (this.#chance(0.5)) this.#cluster.network.cut(b, a);
      this.#for(5_000, () => this.#cluster.network.heal());
    },
    isolate: () => {
      const name = this.#node();
      const isOneWay = this.#chance(0.3);
      for (const other of [...this.#cluster.names(), natsName]) {
        if (other === name) continue;
        this.#cluster.network.cut(name, other);
        if (!isOneWay) this.#cluster.network.cut(other, name);
      }
      this.#for(14_000, () => this.#cluster.network.heal());
    },
    pause: () => {
      const { process, name } = this.#cluster.find(this.#node());
      if (process === undefined || process.isPaused) return;
      this.#cluster.world.trace(name, "stands still");
      process.pause();
      this.#cluster.network.lookLater();
      this.#for(14_000, () => {
        this.#cluster.world.trace(name, "goes on");
        process.resume();
      });
    },
    slowDisk: () => {
      const { faults } = this.#cluster.find(this.#node("shard")).disk;
      faults.slowMs = 20 + this.#cluster.world.random.float() * 200;
      this.#for(4_000, () => (faults.slowMs = 0));
    },
    fullDisk: () => {
      const { faults } = this.#cluster.find(this.#node("shard")).disk;
      faults.isFull = true;
      this.#for(4_000, () => (faults.isFull = false));
    },
    brokenDisk: () => {
      const disk = this.#chance(0.3) ? this.#cluster.natsDisk : this.#cluster.find(this.#node("shard")).disk;
      disk.faults.errorRate = 0.3;
      this.#for(2_000, () => (disk.faults.errorRate = 0));
    },
    lostAnswers: () => {
      const { faults } = this.#cluster.network;
      faults.lostAnswerShare = 0.1;
      this.#for(3_000, () => (faults.lostAnswerShare = 0));
    },
    duplicates: () => {
      const { faults } = this.#cluster.network;
      faults.duplicateShare = 0.2;
      this.#for(3_000, () => (faults.duplicateShare = 0));
    },
    clockStep: () => {
      const node = this.#cluster.find(this.#node());
      const stepMs = (this.#cluster.world.random.float() * 2 - 1) * 3_600_000;
      node.wallOffsetMs += stepMs;
      if (node.process !== undefined) node.process.clock.wallOffsetMs += stepMs;
    },
  };

  #kill(name: string, losesPower: boolean): void {
    const { world } = this.#cluster;
    if (this.#cluster.find(name).process === undefined) return;
    this.#cluster.kill(name, losesPower);
    world.after(100 + world.random.float() * 4_000, () => {
      if (this.#cluster.find(name).process === undefined) this.#cluster.start(name);
    });
  }

  #killNats(losesPower = this.#chance(0.5)): void {
    const { world, nats } = this.#cluster;
    if (nats.process === undefined) return;
    nats.kill(losesPower);
    world.after(100 + world.random.float() * 3_000, () => {
      if (nats.process === undefined) void nats.start();
    });
  }

  /** Ends a fault after at most `ms`. */
  #for(ms: number, end: () => void): void {
    const once = (): void => {
      if (!this.#ends.delete(once)) return;
      end();
    };
    this.#ends.add(once);
    const { world } = this.#cluster;
    world.after(50 + world.random.float() * ms, once);
  }

  #node(role?: Role): string {
    return this.#oneOf(this.#cluster.names(role));
  }

  #oneOf<T>(items: readonly T[]): T {
    return items[this.#cluster.world.random.below(items.length)] as T;
  }

  #chance(share: number): boolean {
    return this.#cluster.world.random.float() < share;
  }
}
