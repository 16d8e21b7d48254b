import type { ClusterSettings, SettingsView } from "../../../libs/cluster/index.js";
import type { pb } from "../../../libs/wire/index.js";

/** The settings of the cluster, as the Cluster service shows and changes them. */
export class SettingsApi {
  readonly #view: SettingsView;

  constructor(view: SettingsView) {
    this.#view = view;
  }

  get(): pb.GetSettingsResponse {
    return { settings: { ...this.#view.current } };
  }

  async update({ settings = {} }: pb.UpdateSettingsRequest): Promise<pb.UpdateSettingsResponse> {
    const changes: Partial<ClusterSettings> = {};
    for (const [name, value] of Object.entries(settings) as [keyof ClusterSettings, number | undefined][]) {
      if (value !== undefined) changes[name] = value;
    }
    return { settings: { ...(await this.#view.change(changes)) } };
  }
}
