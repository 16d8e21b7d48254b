import { Argument, Command, type Option } from "commander";
import { contextOf } from "../context.js";
import type { Io } from "../io.js";
import { write } from "../io.js";

/** The scripts ask `kith complete -- <words>` and fall back to file names where it says nothing. */
const scripts = {
  bash: `_kith() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(kith complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _kith kith`,
  zsh: `#compdef kith
_kith() {
  local -a candidates
  local line
  while IFS= read -r line; do
    candidates+=("\${line%%$'\\t'*}:\${line#*$'\\t'}")
  done < <(kith complete -- "\${words[@]:1:$((CURRENT-1))}" 2>/dev/null)
  if (( \${#candidates} )); then _describe kith candidates; else _files; fi
}
compdef _kith kith`,
  fish: `complete -c kith -f -a '(set -l found (kith complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null); if test (count $found) -gt 0; printf "%s\\n" $found; else; __fish_complete_path (commandline -ct); end)'`,
} as const;

type Shell = keyof typeof scripts;

export function completionCommand(io: Io): Command {
  return new Command("completion")
    .description("print a completion script for your shell")
    .addArgument(new Argument("<shell>", "your shell").choices(Object.keys(scripts)))
    .addHelpText(
      "after",
      `
Examples:
  source <(kith completion bash)          # this session; put it into ~/.bashrc for all
  source <(kith completion zsh)
  kith completion fish > ~/.config/fish/completions/kith.fish`,
    )
    .action(async (shell: Shell) => {
      await write(io.stdout, `${scripts[shell]}\n`);
    });
}

/** Answers the scripts: a candidate a line, with its description after a tab. */
export function completeCommand(io: Io, program: () => Promise<Command>): Command {
  return new Command("complete")
    .argument("[words...]")
    .action(async (words: string[], _flags: object, self: Command) => {
      const context = contextOf(io, self);
      for (const [value, description] of await candidates(await program(), words, () =>
        collectionNames(context.target),
      )) {
        await write(io.stdout, `${value}\t${description}\n`);
      }
    });
}

type Candidate = [value: string, description: string];

/** What can stand in the place of the last word. */
export async function candidates(
  program: Command,
  words: readonly string[],
  collections: () => Promise<string[]>,
): Promise<Candidate[]> {
  const current = words.at(-1) ?? "";
  let command = program;
  let awaited: Option | undefined;
  let positions = 0;
  for (const word of words.slice(0, -1)) {
    if (awaited !== undefined) {
      awaited = undefined;
      continue;
    }
    const option = findOption(command, word);
    if (option !== undefined) {
      if ((option.required || option.optional) && !word.includes("=")) awaited = option;
      continue;
    }
    const child = command.commands.find((each) => each.name() === word || each.aliases().includes(word));
    if (child !== undefined && positions === 0) command = child;
    else positions++;
  }

  const matching = (found: Candidate[]): Candidate[] => found.filter(([value]) => value.startsWith(current));
  if (awaited !== undefined) {
    if (awaited.argChoices) return matching(awaited.argChoices.map((choice) => [choice, ""]));
    return awaited.long === "--collection" ? matching((await collections()).map((name) => [name, "collection"])) : [];
  }
  if (current.startsWith("-")) {
    return matching(visibleOptions(command).map((option) => [option.long ?? option.short ?? "", option.description]));
  }
  const argument = command.registeredArguments[positions];
  const choices = (argument?.argChoices ?? []).map((choice): Candidate => [choice, ""]);
  const children = positions === 0 ? visibleCommands(command) : [];
  if (children.length + choices.length > 0) {
    return matching([...children.map((child): Candidate => [child.name(), child.description()]), ...choices]);
  }
  const names = argument?.name() === "collection" && command.name() !== "create";
  return names ? matching((await collections()).map((name) => [name, "collection"])) : [];
}

function findOption(command: Command, word: string): Option | undefined {
  const flag = word.split("=")[0];
  for (let each: Command | null = command; each !== null; each = each.parent) {
    const found = each.options.find((option) => option.long === flag || option.short === flag);
    if (found !== undefined) return found;
  }
  return undefined;
}

function visibleCommands(command: Command): Command[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .filter((each) => each.name() !== "help");
}

function visibleOptions(command: Command): Option[] {
  const help = command.createHelp();
  help.showGlobalOptions = true;
  return [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)];
}

/** A completion must not be felt: a server that does not answer at once gives no names. */
async function collectionNames(target: string): Promise<string[]> {
  try {
    const { connect } = await import("../../../libs/client/index.js");
    const client = await connect(target, { connectTimeoutMs: 400, deadlineMs: 400 });
    try {
      return (await client.collections.list()).map((each) => each.name);
    } finally {
      client.close();
    }
  } catch (error) {
    // No server, no names: there is no place to say more in a completion.
    if (error instanceof Error) return [];
    throw error;
  }
}
