package presence

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/wire"
)

// The kinds of messages, as their "t" says.
const (
	typeReady   = "ready"
	typeUnready = "unready"
	typeFocus   = "focus"
	typePing    = "ping"
	typeLeave   = "leave"
	typeAsk     = "roster" // from a client it asks for one

	typeRoster   = "roster"
	typeLapsed   = "lapsed"
	typeRejected = "rejected"
	typeResolved = "resolved"
	typePong     = "pong"
)

// Message is what a client says. The set is closed.
type Message interface{ kind() string }

// Ready confirms what is at exactly these heads.
type Ready struct{ Heads []crdt.Hash } // sorted

// Unready takes that back.
type Unready struct{}

// Focus says which field the user is at; "" is none.
type Focus struct{ Field string }

// Ping asks for a [Pong] with the same number.
type Ping struct{ N uint64 }

// Leave says that the user goes, from this connection at least. There is no
// grace for it.
type Leave struct{}

// Ask asks for the roster as it is.
type Ask struct{}

// Wrong is a message that cannot be read: of an unknown kind, or of a wrong
// shape.
type Wrong struct {
	Kind   string // as far as it is known
	Reason string // a sentence for people
}

// Kind returns the kind of a message as its "t" says it, "" if that is not known.
func Kind(m Message) string { return m.kind() }

func (Ready) kind() string   { return typeReady }
func (Unready) kind() string { return typeUnready }
func (Focus) kind() string   { return typeFocus }
func (Ping) kind() string    { return typePing }
func (Leave) kind() string   { return typeLeave }
func (Ask) kind() string     { return typeAsk }
func (w Wrong) kind() string { return w.Kind }

// MaxHeads is how many heads a readiness may name: more than any document has.
const MaxHeads = 4096

// maxPing is the largest number that JavaScript holds exactly.
const maxPing = 1<<53 - 1

// mark is what every message of ours holds, as clients write it: the text
// "parley" in CBOR.
var mark = []byte("\x66parley")

// envelope is how messages travel: as the CBOR value of an automerge-repo
// ephemeral message.
type envelope struct {
	Parley any `cbor:"parley"`
}

// envelopeIn is an envelope with its message unread.
type envelopeIn struct {
	Parley cbor.RawMessage `cbor:"parley"`
}

// upward holds the fields of all messages of clients.
type upward struct {
	T     string   `cbor:"t"`
	Heads []string `cbor:"heads,omitempty"`
	Field *string  `cbor:"field,omitempty"`
	N     any      `cbor:"n,omitempty"`
}

// opener reads envelopes. What lies beside our message, or instead of it, is an
// application's: dates, bytes and whatever else CBOR has.
var opener = mode(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:   1024,
	MaxArrayElements:  math.MaxInt32,
	MaxMapPairs:       math.MaxInt32,
	UTF8:              cbor.UTF8DecodeInvalid,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
})

var decoder = mode(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	MaxNestedLevels:   16,
	MaxArrayElements:  1 << 17,
	MaxMapPairs:       1 << 16,
	TagsMd:            cbor.TagsForbidden,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
})

func mode(options cbor.DecOptions) cbor.DecMode {
	m, err := options.DecMode()
	if err != nil {
		panic("presence: decoder options: " + err.Error())
	}
	return m
}

// open returns the message in an envelope, nil if there is none: then it is an
// application's own. It fails on what is no CBOR, but seems to hold one.
func open(data []byte) (cbor.RawMessage, error) {
	const (
		isMap = 5 << 5 // the major type, in the first byte's upper three bits
		isTag = 6 << 5
	)
	switch {
	case len(data) > 0 && data[0]&0xe0 == isTag && bytes.Contains(data, []byte("parley")):
		return nil, errors.New("it stands in a tag") // through which some decoders look
	case len(data) == 0 || data[0]&0xe0 != isMap:
		return nil, nil
	}
	var e envelopeIn
	err := opener.Unmarshal(data, &e)
	var typeError *cbor.UnmarshalTypeError // of a key that is no text
	switch {
	case err == nil, errors.As(err, &typeError):
		return e.Parley, nil
	case bytes.Contains(data, mark):
		return nil, err
	}
	return nil, nil
}

// Decode reads the data of an ephemeral message from a client. It reports false
// if that is no message of ours but an application's own. What is meant as one
// and cannot be read is [Wrong].
func Decode(data []byte) (Message, bool) {
	body, err := open(data)
	switch {
	case err != nil:
		return Wrong{Reason: "the message is no CBOR that can be read: " + brief(err)}, true
	case body == nil:
		return nil, false
	}
	var u upward
	if err := decoder.Unmarshal(body, &u); err != nil {
		return Wrong{Reason: "the message is not of the expected shape: " + brief(err)}, true
	}
	return u.message(), true
}

// brief is an error as its sender is told it: it may quote what was sent.
func brief(err error) string {
	const most = 200
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}

func (u *upward) message() Message {
	switch u.T {
	case typeReady:
		return u.ready()
	case typeUnready:
		return Unready{}
	case typeFocus:
		return u.focus()
	case typePing:
		return u.ping()
	case typeLeave:
		return Leave{}
	case typeAsk:
		return Ask{}
	case "":
		return Wrong{Reason: `a message needs a "t" that says what it is`}
	}
	kind := strings.ToValidUTF8(u.T[:min(len(u.T), 32)], "")
	return Wrong{Kind: kind, Reason: fmt.Sprintf("there is no message %q: send ready, unready, focus, ping, roster or leave", kind)}
}

func (u *upward) ready() Message {
	switch {
	case len(u.Heads) == 0:
		return Wrong{typeReady, "say what you are ready for: heads, a list of change hashes"}
	case len(u.Heads) > MaxHeads:
		return Wrong{typeReady, fmt.Sprintf("more than %d heads", MaxHeads)}
	}
	heads := make([]crdt.Hash, len(u.Heads))
	for i, text := range u.Heads {
		h, err := wire.ParseHead(text)
		if err != nil {
			return Wrong{typeReady, err.Error()}
		}
		heads[i] = h
	}
	return Ready{Heads: crdt.SortHashes(heads)}
}

func (u *upward) focus() Message {
	switch {
	case u.Field == nil:
		return Focus{}
	case *u.Field == "" || len(*u.Field) > transaction.MaxNameBytes:
		return Wrong{typeFocus, fmt.Sprintf("the name of a field has 1 to %d bytes; null is for none", transaction.MaxNameBytes)}
	}
	return Focus{Field: *u.Field}
}

func (u *upward) ping() Message {
	switch n := u.N.(type) {
	case nil:
		return Ping{}
	case uint64:
		if n <= maxPing {
			return Ping{N: n}
		}
	case float64: // JavaScript writes large numbers so
		if n >= 0 && n <= maxPing && n == math.Trunc(n) {
			return Ping{N: uint64(n)}
		}
	}
	return Wrong{typePing, "n is a whole number from 0 to 2^53-1"}
}

// Encode writes a client's message as the data of an ephemeral message.
func Encode(m Message) []byte {
	u := upward{T: m.kind()}
	switch m := m.(type) {
	case Ready:
		u.Heads = crdt.HashTexts(m.Heads)
	case Focus:
		if m.Field != "" {
			u.Field = &m.Field
		}
	case Ping:
		u.N = number(m.N)
	}
	return encode(u)
}

func encode(body any) []byte {
	data, err := cbor.Marshal(envelope{body})
	if err != nil {
		panic("presence: encode a message: " + err.Error()) // of ours, made of what can be encoded
	}
	return data
}

// number is n as JavaScript reads it as a number: it takes 8-byte integers for
// BigInts.
func number(n uint64) any {
	if n > math.MaxUint32 {
		return float64(n)
	}
	return n
}
