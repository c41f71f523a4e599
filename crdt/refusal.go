package crdt

import "fmt"

// Code says why a change was refused. The set is closed; [Code.Sentence] says
// each in words.
type Code string

// What the bytes of one change can have wrong, whatever the document.
const (
	CodeFraming      Code = "framing"
	CodeChangeSize   Code = "change-too-large"
	CodeDeflate      Code = "deflate"
	CodeChecksum     Code = "checksum"
	CodeHeader       Code = "header"
	CodeDeps         Code = "deps"
	CodeActors       Code = "actors"
	CodeCounter      Code = "counter"
	CodeExtra        Code = "extra-bytes"
	CodeColumns      Code = "columns"
	CodeTooManyOps   Code = "too-many-ops"
	CodeAction       Code = "action"
	CodeKey          Code = "key"
	CodeReference    Code = "reference"
	CodeValue        Code = "value"
	CodeMark         Code = "mark"
	CodePreds        Code = "preds"
	CodeDuplicateKey Code = "duplicate-key"
)

// What a change can have wrong given the document it is for.
const (
	CodeSequence       Code = "sequence"
	CodeStartOp        Code = "start-op"
	CodeUnknownObject  Code = "unknown-object"
	CodeObjectType     Code = "object-type"
	CodeUnknownElement Code = "unknown-element"
	CodeUnknownPred    Code = "unknown-pred"
	CodeIncrement      Code = "increment"
	CodeDepth          Code = "too-deep"
	CodeDocumentSize   Code = "document-too-large"
	CodeTooManyHeads   Code = "too-many-heads"
)

var sentences = map[Code]string{
	CodeFraming:      "these bytes are not exactly one Automerge change",
	CodeChangeSize:   "the change is larger than this server takes",
	CodeDeflate:      "the change is not a well-formed deflate stream",
	CodeChecksum:     "the checksum of the change does not match its content",
	CodeHeader:       "the header of the change is malformed",
	CodeDeps:         "the dependencies of the change are not sorted and distinct, or too many",
	CodeActors:       "the actors of the change are not sorted, distinct and all used",
	CodeCounter:      "a sequence number or operation counter is out of range",
	CodeExtra:        "the bytes after the columns are not records as Automerge writes them",
	CodeColumns:      "the columns are not as Automerge writes them",
	CodeTooManyOps:   "the change holds more operations than this server takes",
	CodeAction:       "an operation is of a kind that does not exist here",
	CodeKey:          "an operation has not exactly one key or element that fits it",
	CodeReference:    "an operation refers to an operation id that cannot be",
	CodeValue:        "an operation's value is not one that it can have",
	CodeMark:         "a mark has no beginning, no end, or parts of one stand elsewhere",
	CodePreds:        "an operation's predecessors are missing, unsorted, or not in its past",
	CodeDuplicateKey: "two operations set one key without the later one replacing the earlier",

	CodeSequence:       "the change does not follow its actor's previous change",
	CodeStartOp:        "the operation counters do not follow those of the change's past",
	CodeUnknownObject:  "an operation is on an object that the change's past does not hold",
	CodeObjectType:     "an operation does not fit the type of its object",
	CodeUnknownElement: "an operation is at an element that its object does not hold",
	CodeUnknownPred:    "an operation replaces one that is not in the change's past at the same place",
	CodeIncrement:      "an increment is of something that is no counter",
	CodeDepth:          "objects are nested deeper than this server takes",
	CodeDocumentSize:   "the document would grow larger than this server takes",
	CodeTooManyHeads:   "too many changes were made without knowing of each other: merge some first",
}

// Sentence says in words what a change refused with this code has wrong.
func (c Code) Sentence() string { return sentences[c] }

// Refusal is the answer to a change that does not pass. It is a result, not a
// failure of ours: whoever gets one names it to the sender.
type Refusal struct {
	Code   Code
	Change Hash   // zero when the bytes have no hash that can be trusted
	Reason string // the code's sentence, and where
}

// Error returns the reason and the change, if it is known.
func (r *Refusal) Error() string {
	if r.Change == (Hash{}) {
		return r.Reason
	}
	return fmt.Sprintf("change %s: %s", r.Change, r.Reason)
}

func newRefusal(code Code, format string, args ...any) *Refusal {
	reason := code.Sentence()
	if format != "" {
		reason += ": " + fmt.Sprintf(format, args...)
	}
	return &Refusal{Code: code, Reason: reason}
}
