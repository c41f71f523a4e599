package wire

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"parley/crdt"
)

var (
	testDocument = crdt.DocumentID{0x6b, 0x6e, 0x6f, 0x77, 0x6e, 15: 1}
	testHeads    = []crdt.Hash{{31: 1}, {0: 0xff, 31: 2}}
	testData     = []byte{0x42, 0, 0, 0, 0}
)

// samples are messages of every type that can be sent, with every field set
// and with none that may be left out.
func samples() []Message {
	return []Message{
		&Join{"alice", Metadata{"store", true}, []string{"1", "2"}},
		&Join{"alice", Metadata{}, []string{"1"}},
		&Peer{"server", "alice", Metadata{"store", false}, "1"},
		&ProtocolError{"server", "alice", "unsupported protocol version"},
		&Leave{"alice"},
		&Request{"alice", "server", testDocument, testData},
		&Sync{"alice", "server", testDocument, testData},
		&Sync{"älice ☃", "", crdt.DocumentID{}, bytes.Repeat([]byte{7}, 70_000)},
		&DocUnavailable{SenderID: "server", TargetID: "alice", DocumentID: testDocument},
		&Ephemeral{"alice", "server", testDocument, 0, "s", testData},
		&Ephemeral{"alice", "server", testDocument, 300, "s", bytes.Repeat([]byte{7}, 300)},
		&Ephemeral{"alice", "server", testDocument, math.MaxUint32, "s", testData},
		&Ephemeral{"alice", "server", testDocument, math.MaxUint32 + 1, "s", testData},
		&Ephemeral{"alice", "server", testDocument, maxSafeInt - 1, "s", testData},
		&RemoteSubscriptionChange{"alice", "server", []StorageID{"a", "b"}, []StorageID{"c"}},
		&RemoteSubscriptionChange{SenderID: "alice", TargetID: "server"},
		&RemoteHeadsChanged{"server", "alice", testDocument, []RemoteHeads{
			{"a", testHeads, 1700000000000}, {"b", nil, 0.5},
		}},
		&RemoteHeadsChanged{SenderID: "server", TargetID: "alice", DocumentID: testDocument},
	}
}

func TestAppendIsReadAgain(t *testing.T) {
	for _, m := range samples() {
		frame := Append([]byte("before"), m)
		if !bytes.HasPrefix(frame, []byte("before")) {
			t.Fatalf("%s: what was there before is gone", m.Type())
		}
		got, err := Decode(frame[len("before"):], Limits{})
		if err != nil {
			t.Errorf("%s: %v", m.Type(), err)
		} else if !reflect.DeepEqual(got, m) {
			t.Errorf("got  %+v\nwant %+v", got, m)
		}
	}
}

func TestAppendBytes(t *testing.T) {
	got := hex.EncodeToString(Append(nil, &Ephemeral{"a", "b", testDocument, 1 << 32, "s", []byte{9}}))
	want := "a7" + // a map of seven
		"6474797065" + "69657068656d6572616c" +
		"6873656e6465724964" + "6161" +
		"687461726765744964" + "6162" +
		"6a646f63756d656e744964" + "781c" + hex.EncodeToString([]byte(testDocument.String())) +
		"65636f756e74" + "fb41f0000000000000" + // a float: 64-bit integers become BigInts
		"6973657373696f6e4964" + "6173" +
		"6464617461" + "4109"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestAnswerToABadDocumentID goes the way of a client that asks for an id that
// is none: it must be told so in its own words.
func TestAnswerToABadDocumentID(t *testing.T) {
	asked := strings.Replace(testDocument.String(), "2", "3", 1)
	frame := bytes.Replace(Append(nil, &Request{"alice", "server", testDocument, testData}),
		[]byte(testDocument.String()), []byte(asked), 1)
	_, err := Decode(frame, Limits{})
	want := &Error{
		Kind: KindDocument, Reason: "documentId names no document",
		Type: TypeRequest, SenderID: "alice", DocumentText: asked,
	}
	if !reflect.DeepEqual(err, want) {
		t.Fatalf("error %#v, want %#v", err, want)
	}
	answer := Append(nil, &DocUnavailable{SenderID: "server", TargetID: "alice", DocumentText: asked})
	text := append([]byte("\x6adocumentId\x78\x1c"), asked...)
	if !bytes.Contains(answer, text) {
		t.Errorf("the answer %q does not hold %q", answer, text)
	}
}

func TestAppendPanics(t *testing.T) {
	for _, m := range []Message{&Sync{SenderID: "a"}, &Request{SenderID: "a"}, &Ephemeral{SenderID: "a"}, &Unknown{Name: "x"}} {
		t.Run(string(m.Type()), func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("written")
				}
			}()
			Append(nil, m)
		})
	}
}
