package wire

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// raw is CBOR given in hexadecimal.
type raw string

// build writes a map of the given keys and values, in their order.
func build(tb testing.TB, entries ...any) []byte {
	tb.Helper()
	w := writer{}
	w.head(majorMap, uint64(len(entries)/2))
	for _, e := range entries {
		if r, ok := e.(raw); ok {
			w.b = append(w.b, unhex(tb, string(r))...)
			continue
		}
		b, err := cbor.Marshal(e)
		if err != nil {
			tb.Fatal(err)
		}
		w.b = append(w.b, b...)
	}
	return w.b
}

// sync builds a sync message whose other fields are the given ones.
func sync(tb testing.TB, entries ...any) []byte {
	return build(tb, append([]any{"type", "sync", "senderId", "alice"}, entries...)...)
}

func list(n int, value any) []any {
	l := make([]any, n)
	for i := range l {
		l[i] = value
	}
	return l
}

func TestDecodeRefuses(t *testing.T) {
	id := testDocument.String()
	head := string(appendHead58(nil, testHeads[0]))
	whole := Append(nil, &Sync{"alice", "server", testDocument, testData})
	newHeads := func(value any) []byte {
		return build(t, "type", "remote-heads-changed", "senderId", "alice", "documentId", id, "newHeads", value)
	}
	count := func(value any) []byte {
		return build(t, "type", "ephemeral", "senderId", "alice", "documentId", id, "sessionId", "s", "data", testData, "count", value)
	}
	join := func(entries ...any) []byte {
		return build(t, append([]any{"type", "join", "senderId", "alice"}, entries...)...)
	}
	long := strings.Repeat("x", defaultID+1)

	for name, c := range map[string]struct {
		frame []byte
		want  Kind
	}{
		"empty":                      {nil, KindEncoding},
		"truncated":                  {whole[:len(whole)-1], KindEncoding},
		"bytes after it":             {append(bytes.Clone(whole), 0), KindEncoding},
		"text, not CBOR":             {[]byte(`{"type":"join"}`), KindEncoding},
		"random bytes":               {unhex(t, "c3 28 a0 a1 e2 82"), KindEncoding},
		"reserved head":              {unhex(t, "1c"), KindEncoding},
		"break alone":                {unhex(t, "ff"), KindEncoding},
		"huge text":                  {unhex(t, "7b 7fffffffffffffff 61"), KindEncoding},
		"text over the address size": {unhex(t, "7b ffffffffffffffff 61"), KindEncoding},
		"huge bytes of data":         {sync(t, "documentId", id, "data", raw("5a ffffffff 00")), KindEncoding},
		"claimed map of 2^32":        {unhex(t, "ba ffffffff"), KindLimit},
		"claimed list of 2^31":       {unhex(t, "9a 7fffffff"), KindLimit},
		"claimed list of 2^63":       {unhex(t, "9b ffffffffffffffff"), KindEncoding},
		"nested lists":               {bytes.Repeat([]byte{0x81}, 100_000), KindLimit},
		"nested tags":                {bytes.Repeat([]byte{0xc1}, 100_000), KindLimit},
		"nested maps":                {bytes.Repeat([]byte{0xa1, 0x61, 'a'}, 100_000), KindLimit},
		"nested within a field":      {sync(t, "extra", raw(strings.Repeat("81", maxNesting)+"00")), KindLimit},
		"indefinite map":             {unhex(t, "bf 64 74797065 64 73796e63 ff"), KindEncoding},
		"indefinite data":            {sync(t, "documentId", id, "data", raw("5f 41 42 ff")), KindEncoding},
		"indefinite text":            {build(t, "type", raw("7f 64 73796e63 ff")), KindEncoding},
		"indefinite list":            {join("supportedProtocolVersions", raw("9f 61 31 ff")), KindEncoding},

		"null":                 {unhex(t, "f6"), KindShape},
		"undefined":            {unhex(t, "f7"), KindShape},
		"a number":             {unhex(t, "18 2a"), KindShape},
		"a list":               {unhex(t, "80"), KindShape},
		"a string":             {unhex(t, "64 73796e63"), KindShape},
		"a tagged map":         {append(unhex(t, "d9 d9f7"), whole...), KindShape},
		"an empty map":         {unhex(t, "a0"), KindShape},
		"no type":              {build(t, "senderId", "alice"), KindShape},
		"empty type":           {build(t, "type", "", "senderId", "alice"), KindShape},
		"type null":            {build(t, "type", nil, "senderId", "alice"), KindShape},
		"type as bytes":        {build(t, "type", []byte("sync"), "senderId", "alice"), KindShape},
		"type a number":        {build(t, "type", 1), KindShape},
		"type a list":          {build(t, "type", []string{"sync"}), KindShape},
		"type not UTF-8":       {build(t, "type", raw("62 c328")), KindShape},
		"key a number":         {build(t, "type", "sync", 1, 1), KindShape},
		"key bytes":            {build(t, "type", "sync", []byte("a"), 1), KindShape},
		"key not UTF-8":        {build(t, "type", "sync", raw("62 c328"), 1), KindShape},
		"key a map":            {build(t, "type", "sync", raw("a0"), 1), KindShape},
		"a known field twice":  {sync(t, "documentId", id, "data", testData, "senderId", "alice"), KindShape},
		"type twice":           {sync(t, "type", "sync"), KindShape},
		"null and again":       {build(t, "type", nil, "type", "leave", "senderId", "alice"), KindShape},
		"an unknown one twice": {sync(t, "documentId", id, "data", testData, "x", 1, "x", 2), KindShape},
		"no sender":            {build(t, "type", "sync", "documentId", id, "data", testData), KindShape},
		"empty sender":         {build(t, "type", "leave", "senderId", ""), KindShape},
		"sender a number":      {build(t, "type", "leave", "senderId", 7), KindShape},
		"sender not UTF-8":     {build(t, "type", "leave", "senderId", raw("61 ff")), KindShape},
		"target a number":      {sync(t, "targetId", 1, "documentId", id, "data", testData), KindShape},

		"no document":           {sync(t, "data", testData), KindShape},
		"document null":         {sync(t, "documentId", nil, "data", testData), KindShape},
		"document empty":        {sync(t, "documentId", "", "data", testData), KindShape},
		"document a number":     {sync(t, "documentId", 5, "data", testData), KindShape},
		"document a map":        {sync(t, "documentId", raw("a0"), "data", testData), KindShape},
		"document of 15 bytes":  {sync(t, "documentId", make([]byte, 15), "data", testData), KindShape},
		"document not base58":   {sync(t, "documentId", "0OIl", "data", testData), KindDocument},
		"document's checksum":   {sync(t, "documentId", id[1:]+"1", "data", testData), KindDocument},
		"document a path":       {sync(t, "documentId", "../../etc/passwd", "data", testData), KindDocument},
		"bad document, no data": {sync(t, "documentId", "nonsense"), KindShape},
		"document too long":     {sync(t, "documentId", long, "data", testData), KindLimit},

		"no data":              {sync(t, "documentId", id), KindShape},
		"data null":            {sync(t, "documentId", id, "data", nil), KindShape},
		"data empty":           {sync(t, "documentId", id, "data", []byte{}), KindShape},
		"data text":            {sync(t, "documentId", id, "data", "abc"), KindShape},
		"data a list":          {sync(t, "documentId", id, "data", raw("83 01 02 03")), KindShape},
		"data of another tag":  {sync(t, "documentId", id, "data", raw("d8 18 41 01")), KindShape},
		"data tagged twice":    {sync(t, "documentId", id, "data", raw("d8 40 d8 40 41 01")), KindShape},
		"data tagged text":     {sync(t, "documentId", id, "data", raw("d8 40 61 61")), KindShape},
		"data empty in a tag":  {sync(t, "documentId", id, "data", raw("d8 40 40")), KindShape},
		"count missing":        {build(t, "type", "ephemeral", "senderId", "alice", "documentId", id, "sessionId", "s", "data", testData), KindShape},
		"count null":           {count(nil), KindShape},
		"count false":          {count(false), KindShape},
		"count negative":       {count(-1), KindShape},
		"count negative float": {count(-1.0), KindShape},
		"count 0.5":            {count(0.5), KindShape},
		"count NaN":            {count(math.NaN()), KindShape},
		"count infinite":       {count(math.Inf(1)), KindShape},
		"count 2^53":           {count(uint64(1) << 53), KindShape},
		"count 2^64-1":         {count(uint64(math.MaxUint64)), KindShape},
		"count a bignum":       {count(raw("c2 41 01")), KindShape},
		"count text":           {count("1"), KindShape},
		"no session":           {build(t, "type", "ephemeral", "senderId", "alice", "documentId", id, "count", 1, "data", testData), KindShape},

		"metadata a list":         {join("peerMetadata", raw("80")), KindShape},
		"metadata's key a number": {join("peerMetadata", map[int]int{1: 1}), KindShape},
		"metadata's field twice":  {join("peerMetadata", raw("a2 61 61 01 61 61 02")), KindShape},
		"storage id a number":     {join("peerMetadata", map[string]any{"storageId": 1}), KindShape},
		"storage id too long":     {join("peerMetadata", map[string]any{"storageId": long}), KindLimit},
		"isEphemeral text":        {join("peerMetadata", map[string]any{"isEphemeral": "yes"}), KindShape},
		"isEphemeral 1":           {join("peerMetadata", map[string]any{"isEphemeral": 1}), KindShape},
		"versions text":           {join("supportedProtocolVersions", "1"), KindShape},
		"versions numbers":        {join("supportedProtocolVersions", []int{1}), KindShape},
		"version too long":        {join("supportedProtocolVersions", []string{long}), KindLimit},
		"versions too many":       {join("supportedProtocolVersions", list(defaultList+1, "1")), KindLimit},
		"no selected version":     {build(t, "type", "peer", "senderId", "server"), KindShape},
		"error's text a number":   {build(t, "type", "error", "message", 1), KindShape},
		"error's text too long":   {build(t, "type", "error", "message", strings.Repeat("x", maxMessage+1)), KindLimit},
		"add a map":               {build(t, "type", "remote-subscription-change", "senderId", "alice", "add", raw("a0")), KindShape},
		"add of numbers":          {build(t, "type", "remote-subscription-change", "senderId", "alice", "add", []int{1}), KindShape},
		"add too many":            {build(t, "type", "remote-subscription-change", "senderId", "alice", "add", list(defaultList+1, "a")), KindLimit},
		"remove too long":         {build(t, "type", "remote-subscription-change", "senderId", "alice", "remove", []string{long}), KindLimit},

		"no newHeads":             {build(t, "type", "remote-heads-changed", "senderId", "alice", "documentId", id), KindShape},
		"newHeads a list":         {newHeads(raw("80")), KindShape},
		"newHeads' key a number":  {newHeads(map[int]any{1: map[string]any{"heads": []string{}, "timestamp": 1}}), KindShape},
		"newHeads' entry null":    {newHeads(map[string]any{"a": nil}), KindShape},
		"newHeads' entry twice":   {newHeads(raw("a2" + strings.Repeat("6161 a2 65686561647380 6974696d657374616d7001", 2))), KindShape},
		"newHeads without heads":  {newHeads(map[string]any{"a": map[string]any{"timestamp": 1}}), KindShape},
		"newHeads without time":   {newHeads(map[string]any{"a": map[string]any{"heads": []string{}}}), KindShape},
		"newHeads' time NaN":      {newHeads(map[string]any{"a": map[string]any{"heads": []string{}, "timestamp": math.NaN()}}), KindShape},
		"newHeads' time text":     {newHeads(map[string]any{"a": map[string]any{"heads": []string{}, "timestamp": "1"}}), KindShape},
		"newHeads' heads text":    {newHeads(map[string]any{"a": map[string]any{"heads": head, "timestamp": 1}}), KindShape},
		"newHeads' head bad":      {newHeads(map[string]any{"a": map[string]any{"heads": []string{head[1:]}, "timestamp": 1}}), KindShape},
		"newHeads' head an id":    {newHeads(map[string]any{"a": map[string]any{"heads": []string{id}, "timestamp": 1}}), KindShape},
		"newHeads' head bytes":    {newHeads(map[string]any{"a": map[string]any{"heads": []any{testHeads[0][:]}, "timestamp": 1}}), KindShape},
		"newHeads' head too long": {newHeads(map[string]any{"a": map[string]any{"heads": []string{long}, "timestamp": 1}}), KindLimit},
		"newHeads' heads many":    {newHeads(map[string]any{"a": map[string]any{"heads": list(defaultList+1, head), "timestamp": 1}}), KindLimit},

		"newHeads' heads in all": {newHeads(map[string]any{
			"a": map[string]any{"heads": list(defaultList/2, head), "timestamp": 1},
			"b": map[string]any{"heads": list(defaultList/2+1, head), "timestamp": 1},
		}), KindLimit},

		"sender too long":   {build(t, "type", "leave", "senderId", long), KindLimit},
		"type too long":     {build(t, "type", long, "senderId", "alice"), KindLimit},
		"session too long":  {build(t, "type", "ephemeral", "senderId", "alice", "documentId", id, "count", 1, "data", testData, "sessionId", long), KindLimit},
		"too many fields":   {build(t, list(2*(maxFields+1), "x")...), KindLimit},
		"list of unknown":   {sync(t, "documentId", id, "data", testData, "x", list(maxElements+1, 0)), KindLimit},
		"frame of 16 MiB+1": {sync(t, "documentId", id, "data", make([]byte, defaultFrame)), KindLimit},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Decode(c.frame, Limits{})
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("decoded as %+v, error %v", m, err)
			}
			if refused.Kind != c.want {
				t.Errorf("%v: kind %s, want %s", refused, refused.Kind, c.want)
			}
			if m != nil {
				t.Errorf("both a message and an error")
			}
			if (refused.DocumentText != "") != (refused.Kind == KindDocument) {
				t.Errorf("kind %s with document text %q", refused.Kind, refused.DocumentText)
			}
		})
	}
}

func TestDecodeTakes(t *testing.T) {
	id := testDocument.String()
	plain := &Sync{SenderID: "alice", DocumentID: testDocument, Data: testData}
	ephemeral := func(count any) []byte {
		return build(t, "type", "ephemeral", "senderId", "alice", "documentId", id, "sessionId", "s", "data", testData, "count", count)
	}
	counted := func(n uint64) Message {
		return &Ephemeral{SenderID: "alice", DocumentID: testDocument, Count: n, SessionID: "s", Data: testData}
	}
	for name, c := range map[string]struct {
		frame []byte
		want  Message
	}{
		"heads of 64 bits": {unhex(t, "bb 0000000000000002"+
			"7b 0000000000000004 74797065 7a 00000005 6c65617665"+
			"79 0008 73656e6465724964 78 05 616c696365"), &Leave{"alice"}},
		"undefined where nothing is needed": {sync(t, "targetId", raw("f7"), "documentId", id, "data", testData), plain},
		"null where nothing is needed":      {sync(t, "targetId", nil, "documentId", id, "data", testData), plain},
		"tag 64":                            {sync(t, "documentId", id, "data", raw("d8 40 45 4200000000")), plain},
		"tag 64, written at length":         {sync(t, "documentId", id, "data", raw("db 0000000000000040 45 4200000000")), plain},
		"document as bytes":                 {sync(t, "documentId", testDocument[:], "data", testData), plain},
		"document as tagged bytes": {sync(t, "documentId", raw("d8 40 50 6b6e6f776e00000000000000000000 01"), "data", testData),
			plain},
		"unknown fields": {sync(t, "x", list(maxElements, 0), "documentId", id, "y", raw("c1 00"), "data", testData, "z", raw("62 c328")), plain},
		"a frame of 16 MiB": {sync(t, "documentId", id, "data", make([]byte, defaultFrame-77)),
			&Sync{SenderID: "alice", DocumentID: testDocument, Data: make([]byte, defaultFrame-77)}},

		"count 0":                {ephemeral(0), counted(0)},
		"count in 64 bits":       {ephemeral(uint64(1) << 40), counted(1 << 40)},
		"count, 32 of 64 bits":   {ephemeral(raw("1b 0000000000000007")), counted(7)},
		"count a float64":        {ephemeral(float64(1 << 40)), counted(1 << 40)},
		"count a float32":        {ephemeral(float32(7)), counted(7)},
		"count a float16":        {ephemeral(raw("f9 4700")), counted(7)},
		"count 2^53-1 an int":    {ephemeral(uint64(maxSafeInt - 1)), counted(maxSafeInt - 1)},
		"count 2^53-1 a float":   {ephemeral(float64(maxSafeInt - 1)), counted(maxSafeInt - 1)},
		"an error with no peers": {build(t, "type", "error", "message", "no"), &ProtocolError{Message: "no"}},
		"an error with no text":  {build(t, "type", "error"), &ProtocolError{}},
		"versions, none":         {build(t, "type", "join", "senderId", "alice", "supportedProtocolVersions", []string{}), &Join{SenderID: "alice"}},
		"metadata of others": {build(t, "type", "join", "senderId", "alice", "peerMetadata", map[string]any{"access": "public", "storageId": nil}),
			&Join{"alice", Metadata{}, []string{"1"}}},
		"longest ids": {build(t, "type", "leave", "senderId", strings.Repeat("x", defaultID)),
			&Leave{PeerID(strings.Repeat("x", defaultID))}},

		"unknown type":               {build(t, "type", "novel", "senderId", "alice", "documentId", 7), &Unknown{"novel", "alice"}},
		"unknown type, no sender":    {build(t, "type", "novel"), &Unknown{Name: "novel"}},
		"unknown type, odd sender":   {build(t, "type", "novel", "senderId", 7), &Unknown{Name: "novel"}},
		"name of a method of Object": {build(t, "type", "__proto__", "senderId", "alice"), &Unknown{"__proto__", "alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Decode(c.frame, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestDecodeCopiesAllButData overwrites the frame, as a connection does that
// reads the next one into the same buffer.
func TestDecodeCopiesAllButData(t *testing.T) {
	frame := Append(nil, &Ephemeral{"alice", "server", testDocument, 1, "session", []byte{1}})
	m, err := Decode(frame, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range frame {
		frame[i] = 0xee
	}
	if want := (&Ephemeral{"alice", "server", testDocument, 1, "session", []byte{0xee}}); !reflect.DeepEqual(m, want) {
		t.Errorf("got %+v, want %+v", m, want)
	}
}

func TestLimits(t *testing.T) {
	subscribe := Append(nil, &RemoteSubscriptionChange{"ab", "", []StorageID{"a", "b"}, nil})
	for name, lim := range map[string]Limits{
		"frame": {Frame: len(subscribe) - 1},
		"list":  {List: 1},
		"id":    {ID: 1},
	} {
		if _, err := Decode(subscribe, lim); err == nil || err.(*Error).Kind != KindLimit {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := Decode(subscribe, Limits{Frame: len(subscribe), List: 2, ID: 26}); err != nil {
		t.Error(err)
	}
}

// TestKnownFieldsAreNamed holds the two lists of fields together.
func TestKnownFieldsAreNamed(t *testing.T) {
	for f := fieldType; f < numFields; f++ {
		if got := fieldNamed([]byte(fieldNames[f])); got != f {
			t.Errorf("%q is field %d, want %d", fieldNames[f], got, f)
		}
	}
}
