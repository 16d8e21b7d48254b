import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  {
    ignores: ["dist/", "libs/wire/gen/", "libs/ann/build/", "node_modules/", "bench/results/", "**/*.mjs", "**/*.cjs"],
  },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/require-await": "off",
      "no-restricted-properties": [
        "error",
        { object: "process", property: "env", message: "Only services/*/main.ts reads the environment." },
        { object: "process", property: "argv", message: "Only services/*/main.ts reads the arguments." },
        { object: "process", property: "exit", message: "Only services/*/main.ts ends the process." },
      ],
    },
  },
  {
    files: ["services/*/main.ts", "test/**", "bench/**", "**/*.test.ts"],
    rules: { "no-restricted-properties": "off" },
  },
);
