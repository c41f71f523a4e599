package transaction

import (
	"fmt"

	"parley/crdt"
)

// What a change can have wrong given the transaction and who made it.
const (
	CodeGenesis      crdt.Code = "genesis"
	CodeReadOnly     crdt.Code = "read-only"
	CodeForeignActor crdt.Code = "foreign-actor"
	CodePath         crdt.Code = "path"
	CodePick         crdt.Code = "pick"
	CodePickEdited   crdt.Code = "pick-edited"
	CodeNotAuthor    crdt.Code = "not-author"
	CodeNotHost      crdt.Code = "not-host"
	CodeField        crdt.Code = "field"
	CodeFieldEdited  crdt.Code = "field-edited"
	CodeName         crdt.Code = "name"
	CodeSize         crdt.Code = "too-large"
	CodeTooMany      crdt.Code = "too-many"
)

var sentences = map[crdt.Code]string{
	CodeGenesis:      "a transaction begins with its one first change, which this is not, and nothing else begins it again",
	CodeReadOnly:     "viewers and auditors may read the transaction but not change it",
	CodeForeignActor: "the change is written as an actor that belongs to somebody else",
	CodePath:         "a change may write fields and selections and nothing else in the document",
	CodePick:         "a pick is a whole new map {value, by, at, option}, of which only option may be left out",
	CodePickEdited:   "a pick is not edited in place: put a whole new one",
	CodeNotAuthor:    "a pick is made in the name of somebody other than its author",
	CodeNotHost:      "only a host may write fields",
	CodeField:        "a field is a map {label, required, options}, and each of its options a map {value, source}",
	CodeFieldEdited:  "the texts and values of a field are not edited in place: put whole new ones",
	CodeName:         "the name of a field or option is empty, longer than may be, or __proto__, which is no key of a value either",
	CodeSize:         "a value or text is larger than may be",
	CodeTooMany:      "there would be more fields or options than may be",
}

// Sentence says in words what a change refused with a code of this package, or
// of package crdt, has wrong.
func Sentence(code crdt.Code) string {
	if s, ok := sentences[code]; ok {
		return s
	}
	return code.Sentence()
}

// Bounds of a transaction. They leave room: a form of a few hundred fields, a
// scanned clause as a value. The document is bounded by crdt.Limits besides.
const (
	MaxNameBytes  = 256      // of a field's or option's name
	MaxTextBytes  = 4 << 10  // of a label or source
	MaxValueBytes = 64 << 10 // of a value as JSON
	MaxDepth      = 64       // of objects within a value
	MaxFields     = 5000     // that are defined, and as many that are picked
	MaxOptions    = 200      // of one field
)

// protoKey is a key that Automerge can hold and JavaScript's objects cannot: a
// client there sees no such key, but reads what the map under it holds as if it
// were in the object itself. JavaScript's Automerge does not write it. Parties
// who must agree must see the same.
const protoKey = "__proto__"

func newRefusal(code crdt.Code, format string, args ...any) *crdt.Refusal {
	reason := Sentence(code)
	if format != "" {
		reason += ": " + fmt.Sprintf(format, args...)
	}
	return &crdt.Refusal{Code: code, Reason: reason}
}
