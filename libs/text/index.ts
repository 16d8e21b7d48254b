export { analysisVersion, type Analyzer, analyzerOf } from "./analyzer.js";
export { editDistance } from "./distance.js";
export { highlight, highlightPayload, type HighlightOptions } from "./highlight.js";
export { stopwordsOf } from "./languages.js";
export { parseText, type ParsedText, type Phrase } from "./parse.js";
export { FieldTexts, inverseDocumentFrequency, passesPhrases } from "./texts.js";
