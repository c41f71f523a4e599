package crdt

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"parley/crdt/internal/columnar"
	"parley/crdt/internal/forge"
)

func TestDecodeChange(t *testing.T) {
	first, second := fixtures(t)
	for _, tt := range []struct{ got, want *Change }{{first, firstChange()}, {second, secondChange(first)}} {
		if !sameOps(tt.got.Ops, tt.want.Ops) {
			t.Errorf("operations are\n%+v\nwant\n%+v", tt.got.Ops, tt.want.Ops)
		}
		if tt.got.Message != tt.want.Message || tt.got.Time != tt.want.Time || tt.got.Actor != tt.want.Actor ||
			!reflect.DeepEqual(tt.got.Actors, tt.want.Actors) || tt.got.Seq != tt.want.Seq {
			t.Errorf("header is %+v, want %+v", tt.got, tt.want)
		}
		checkRoundTrip(t, tt.got)
	}
	if second.MaxOp() != firstOps+secondOps || second.NumOps() != secondOps {
		t.Errorf("%d operations up to %d", second.NumOps(), second.MaxOp())
	}
	if id := second.ID(second.Ops[atPut].Pred[0]); id != (OpID{Counter: opScalar, Actor: alice}) {
		t.Errorf("the put replaces %s", id)
	}
	if id := second.ID(second.OpRef(atInner)); id != (OpID{Counter: firstOps + 1 + atInner, Actor: bob}) {
		t.Errorf("the inner map is %s", id)
	}
}

// sameOps compares operations; no predecessors and an empty list of them are
// the same.
func sameOps(a, b []Op) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if len(x.Pred)+len(y.Pred) == 0 {
			x.Pred, y.Pred = nil, nil
		}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

func TestValues(t *testing.T) {
	first, second := fixtures(t)
	if v := first.Ops[opScalar-1].Value; v.Kind != KindInt || v.Int() != -300 {
		t.Errorf("int: %+v", v)
	}
	if v := first.Ops[opElem-1].Value; v.Kind != KindFloat || v.Float() != 1.5 {
		t.Errorf("float: %+v", v)
	}
	if v := second.Ops[atPut].Value; v.Text() != "日本" {
		t.Errorf("text: %+v", v)
	}
	if v := second.Ops[atUpdate].Value; v.Raw() != "\xff" {
		t.Errorf("bytes: %+v", v)
	}
	if v := (Value{Kind: KindUint, raw: "\x80\x01"}); v.Uint() != 128 || !v.valid() {
		t.Errorf("uint: %+v", v)
	}
}

func TestEmptyChange(t *testing.T) {
	c := decoded(t, &Change{Actor: alice, Actors: []ActorID{alice}, Seq: 1, StartOp: 9, Extra: []byte("\x01\x02hi")})
	if c.NumOps() != 0 || c.MaxOp() != 8 || string(c.Extra) != "\x01\x02hi" {
		t.Errorf("%d operations up to %d, extra %x", c.NumOps(), c.MaxOp(), c.Extra)
	}
}

func TestDecodeChangeKeepsNothing(t *testing.T) {
	chunk := newDraft(firstChange()).chunk()
	c, err := DecodeChange(chunk, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	clear(chunk)
	if c.Message != "begin" || c.Ops[0].Key != "map" || string(c.Chunk()[:len(chunkMagic)]) != chunkMagic {
		t.Error("the change is gone with the bytes that it was read from")
	}
}

// hostileChange is a change that must be refused, made by bending the second
// fixture.
type hostileChange struct {
	name string
	code Code
	bend func(*draft)
}

// withColumn makes a hostileChange of a column's bytes.
func withColumn(col column, bytes string) func(*draft) {
	return func(d *draft) { d.cols[col] = []byte(bytes) }
}

// withOp makes a hostileChange of one operation.
func withOp(i int, bend func(*Op)) func(*draft) {
	return func(d *draft) {
		ops := secondChange(&Change{}).Ops
		bend(&ops[i])
		d.cols = encodeOps(ops)
	}
}

var hostileChanges = []hostileChange{
	{"deps not sorted", CodeDeps, func(d *draft) { d.deps = []Hash{{2}, {1}} }},
	{"deps twice", CodeDeps, func(d *draft) { d.deps = []Hash{{1}, {1}} }},
	{"too many deps", CodeDeps, func(d *draft) { d.deps = make([]Hash, 10_001) }},
	{"message not UTF-8", CodeHeader, func(d *draft) { d.message = "\xff" }},
	{"long message", CodeHeader, func(d *draft) { d.message = strings.Repeat("m", 64<<10+1) }},
	{"no actor", CodeActors, func(d *draft) { d.actor = "" }},
	{"long actor", CodeActors, func(d *draft) { d.actor = ActorID(strings.Repeat("a", 257)) }},
	{"no other actor's bytes", CodeActors, func(d *draft) { d.others = []ActorID{""} }},
	{"itself among the others", CodeActors, func(d *draft) { d.others = []ActorID{bob} }},
	{"others twice", CodeActors, func(d *draft) { d.others = []ActorID{alice, alice} }},
	{"others not sorted", CodeActors, func(d *draft) { d.others = []ActorID{carol, alice} }},
	{"an actor not used", CodeActors, func(d *draft) { d.others = []ActorID{alice, carol} }},
	{"too many actors", CodeActors, func(d *draft) { d.others = make([]ActorID, 20_001) }},
	{"seq 0", CodeCounter, func(d *draft) { d.seq = 0 }},
	{"seq over 32 bits", CodeCounter, func(d *draft) { d.seq = 1 << 32 }},
	{"startOp 0", CodeCounter, func(d *draft) { d.startOp = 0 }},
	{"startOp over 32 bits", CodeCounter, func(d *draft) { d.startOp = 1 << 32 }},
	{"last counter over 32 bits", CodeCounter, func(d *draft) { d.startOp = 1<<32 - 3 }},
	{"startOp overflows", CodeCounter, func(d *draft) { d.startOp = 1<<64 - 2 }},
	{"extra cut off", CodeExtra, func(d *draft) { d.extra = []byte("\x01\x05hi") }},
	{"extra without length", CodeExtra, func(d *draft) { d.extra = []byte("\x01") }},
	{"an author in a later change", CodeExtra, func(d *draft) { d.seq, d.extra = 2, []byte("\x01\x02hi") }},
	{"an author behind another record", CodeExtra, func(d *draft) { d.seq, d.extra = 2, []byte("\x03\x00\x01\x00") }},
	{"long extra", CodeExtra, func(d *draft) { d.extra = make([]byte, 4<<10+1) }},

	{"no insert column", CodeColumns, withColumn(colInsert, "")},
	{"insert rows short", CodeColumns, withColumn(colInsert, "\x03\x02\x01")},
	{"insert rows long", CodeColumns, withColumn(colInsert, "\x08")},
	{"insert run of none", CodeColumns, withColumn(colInsert, "\x03\x02\x02\x00")},
	{"expand all false", CodeColumns, func(d *draft) {
		d.cols[colExpand], d.cols[colMarkName] = []byte("\x07"), nil
		withOp(atMarkBegin, func(op *Op) { op.Expand = false })(d)
		d.cols[colExpand] = []byte("\x07")
	}},
	{"expand rows short", CodeColumns, withColumn(colExpand, "\x03\x01\x02")},
	{"expand rows long", CodeColumns, withColumn(colExpand, "\x03\x01\x04")},
	{"expand run of none", CodeColumns, withColumn(colExpand, "\x03\x01\x01\x00\x02")},
	{"mark name rows short", CodeColumns, withColumn(colMarkName, "\x00\x03\x7f\x04bold")},
	{"mark name rows long", CodeColumns, withColumn(colMarkName, "\x00\x03\x7f\x04bold\x00\x04")},
	{"mark name not UTF-8", CodeColumns, withColumn(colMarkName, "\x00\x03\x7f\x01\xff\x00\x03")},
	{"run of one action", CodeColumns, withColumn(colAction, "\x01\x01\x7d\x05\x03\x07\x7d\x07\x06\x01")},
	{"overlong action", CodeColumns, withColumn(colAction, "\x7d\x81\x00\x05\x03\x02\x07\x7e\x06\x01")},
	{"action rows without a value", CodeAction, withColumn(colAction, "\x00\x01\x7e\x05\x03\x02\x07\x7e\x06\x01")},
	{"key not UTF-8", CodeColumns, withColumn(colKeyText, "\x7e\x03key\x01\xff\x00\x03\x7f\x05inner\x00\x01")},
	{"value bytes left over", CodeColumns, func(d *draft) { d.cols[colValueRaw] = append(d.cols[colValueRaw], 0) }},
	{"value bytes missing", CodeColumns, func(d *draft) { d.cols[colValueRaw] = d.cols[colValueRaw][:3] }},
	{"value length huge", CodeColumns, withColumn(colValueMeta, "\x79\xf6\xff\xff\xff\xff\xff\xff\xff\xff\x01\x14\x00\x02\x00\x00\x17")},
	{"a predecessor too many", CodeColumns, withColumn(colPredActor, "\x05\x01")},
	{"a predecessor too few", CodeColumns, withColumn(colPredActor, "\x03\x01")},
	{"predecessors uncounted", CodeColumns, withColumn(colPredCount, "")},
	{"object counters short", CodeColumns, withColumn(colObjectCounter, "\x00\x02\x03\x03\x7f\x01")},

	{"too many operations", CodeTooManyOps, withColumn(colAction, "\xa1\x9c\x01\x01")},
	{"2^40 operations", CodeTooManyOps, withColumn(colAction, "\x80\x80\x80\x80\x80\x20\x01")},
	{"action 8", CodeAction, withOp(atPut, func(op *Op) { op.Action = numActions })},
	{"a delete that inserts", CodeAction, withOp(atDelete, func(op *Op) { op.Insert = true })},
	{"an increment that inserts", CodeAction, withOp(atIncrement, func(op *Op) { op.Insert = true })},

	{"key and element", CodeKey, func(d *draft) {
		d.cols[colKeyText] = []byte("\x7d\x03key\x07counter\x01a\x00\x02\x7f\x05inner\x00\x01")
	}},
	{"no key", CodeKey, withColumn(colKeyText, "\x00\x01\x7f\x07counter\x00\x03\x7f\x05inner\x00\x01")},
	{"no element", CodeKey, withOp(atDelete, func(op *Op) { op.Keyed = true; op.Key = "a"; op.Insert = true; op.Action = Put })},
	{"an element of the root", CodeKey, withOp(atUpdate, func(op *Op) { op.Object = Ref{} })},
	{"half an element id", CodeKey, withOp(atUpdate, func(op *Op) { op.Elem = Ref{} })},
	{"element without actor", CodeKey, withColumn(colKeyActor, "\x00\x04\x7f\x01\x00\x01\x7f\x01")},
	{"a mark at a key", CodeKey, withOp(atMarkEnd, func(op *Op) { op.Keyed, op.Insert, op.Elem = true, false, Ref{} })},

	{"object actor out of range", CodeReference, withOp(atInner, func(op *Op) { op.Object.Actor = 2 })},
	{"element actor out of range", CodeReference, withOp(atUpdate, func(op *Op) { op.Elem.Actor = 2 })},
	{"pred actor out of range", CodeReference, withOp(atPut, func(op *Op) { op.Pred = []Ref{{Counter: opScalar, Actor: 2}} })},
	{"object in the future", CodeReference, withOp(atInner, func(op *Op) { op.Object.Counter = 100 })},
	{"element in the future", CodeReference, withOp(atMarkEnd, func(op *Op) { op.Elem.Counter = 100 })},
	{"object of counter 0", CodeReference, withColumn(colObjectCounter, "\x00\x02\x02\x00\x02\x03\x7f\x02")},
	{"half an object id", CodeReference, withColumn(colObjectCounter, "\x00\x03\x02\x03\x7e\x01\x02")},

	{"no value", CodeValue, withColumn(colValueMeta, "")},
	{"a value of unknown kind", CodeValue, withOp(atPut, func(op *Op) { op.Value.Kind = 10 })},
	{"float of 7 bytes", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindFloat, raw: "1234567"} })},
	{"float of 9 bytes", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindFloat, raw: "123456789"} })},
	{"true with bytes", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindTrue, raw: "1"} })},
	{"null with bytes", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{raw: "1"} })},
	{"overlong int", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindInt, raw: "\x81\x00"} })},
	{"int with more", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindInt, raw: "\x01\x01"} })},
	{"int without bytes", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindInt} })},
	{"overlong uint", CodeValue, withOp(atPut, func(op *Op) { op.Value = Value{Kind: KindUint, raw: "\x81\x00"} })},
	{"text not UTF-8", CodeValue, withOp(atPut, func(op *Op) { op.Value = textValue("\xff") })},
	{"increment by a text", CodeValue, withOp(atIncrement, func(op *Op) { op.Value = textValue("1") })},
	{"increment by a uint", CodeValue, withOp(atIncrement, func(op *Op) { op.Value.Kind = KindUint })},
	{"increment by nothing", CodeValue, withOp(atIncrement, func(op *Op) { op.Value = Value{} })},
	{"a delete with a value", CodeValue, withOp(atDelete, func(op *Op) { op.Value = intValue(1) })},
	{"a map with a value", CodeValue, withOp(atInner, func(op *Op) { op.Value = intValue(1) })},
	{"a mark's end with a value", CodeValue, withOp(atMarkEnd, func(op *Op) { op.Value = intValue(1) })},

	{"a mark not inserted", CodeMark, withOp(atMarkBegin, func(op *Op) { op.Insert = false; op.Elem = his(opChar1) })},
	{"a mark's name elsewhere", CodeMark, withOp(atInner, func(op *Op) { op.MarkBegin = true })},
	{"expand elsewhere", CodeMark, withOp(atInner, func(op *Op) { op.Expand = true })},
	{"a mark without end", CodeMark, withOp(atMarkEnd, func(op *Op) { op.Action = Put })},
	{"a mark without beginning", CodeMark, withOp(atMarkBegin, func(op *Op) { *op = Op{Action: Put, Insert: true, Object: op.Object} })},
	{"a mark begun twice", CodeMark, withOp(atMarkEnd, func(op *Op) { op.MarkBegin = true })},
	{"a mark's end elsewhere", CodeMark, withOp(atMarkEnd, func(op *Op) { op.Object = his(opList) })},
	{"a mark begun at the end", CodeMark, withOp(atUpdate, func(op *Op) {
		*op = Op{Action: Mark, Insert: true, MarkBegin: true, Object: op.Object}
	})},

	{"preds not sorted", CodePreds, withOp(atPut, func(op *Op) { op.Pred = []Ref{his(4), his(3)} })},
	{"preds twice", CodePreds, withOp(atPut, func(op *Op) { op.Pred = []Ref{his(4), his(4)} })},
	{"preds not sorted by actor", CodePreds, withOp(atPut, func(op *Op) { op.Pred = []Ref{own(4), his(4)} })},
	{"pred in the future", CodeReference, withOp(atPut, func(op *Op) { op.Pred = []Ref{own(firstOps + 1)} })},
	{"half a pred", CodePreds, withColumn(colPredActor, "\x03\x01\x00\x01")},
	{"a delete of nothing", CodePreds, withOp(atDelete, func(op *Op) { op.Pred = nil })},
	{"an increment of nothing", CodePreds, withOp(atIncrement, func(op *Op) { op.Pred = nil })},
	{"an update of nothing", CodePreds, withOp(atUpdate, func(op *Op) { op.Pred = nil })},
	{"an insert with preds", CodePreds, withOp(atMarkEnd, func(op *Op) { op.Pred = []Ref{his(opChar2)} })},
	{"too many preds", CodePreds, withColumn(colPredCount, "\x07\x80\x80\x80\x80\x80\x80\x80\x80\x40")},

	{"a key set twice", CodeDuplicateKey, withOp(atIncrement, func(op *Op) { *op = Op{Action: Put, Keyed: true, Key: "key", Pred: []Ref{his(opScalar)}} })},
}

func TestDecodeChangeRefuses(t *testing.T) {
	first := decoded(t, firstChange())
	for _, h := range hostileChanges {
		d := newDraft(secondChange(first))
		h.bend(d)
		checkRefusal(t, h.name, d.chunk(), Limits{}, h.code)
		checkRefusal(t, h.name+", deflated", frame(typeDeflated, d.body()), Limits{}, h.code)
	}
}

func checkRefusal(t *testing.T, name string, chunk []byte, lim Limits, want Code) {
	t.Helper()
	c, err := DecodeChange(chunk, lim)
	var r *Refusal
	if !errors.As(err, &r) {
		t.Errorf("%s: %v, want a refusal: %s", name, err, want)
		return
	}
	if r.Code != want || c != nil || !strings.HasPrefix(r.Reason, want.Sentence()) {
		t.Errorf("%s: %s: %v; want %s", name, r.Code, r, want)
	}
}

func TestDecodeChangeFrame(t *testing.T) {
	whole := newDraft(firstChange()).chunk()
	body := newDraft(firstChange()).body()
	edit := func(at int, b byte) []byte {
		c := append([]byte(nil), whole...)
		c[at] = b
		return c
	}
	padded := append(forge.Deflate(body), 0)
	withStream := func(stream []byte) []byte {
		head := append([]byte(nil), whole[:chunkTypeAt]...)
		return append(columnar.AppendUint(append(head, typeDeflated), uint64(len(stream))), stream...)
	}
	overlong := append(append([]byte(nil), whole[:chunkBodyAt]...), byte(len(body))|0x80, byte(len(body)>>7)|0x80, 0)
	for _, tt := range []struct {
		name  string
		chunk []byte
		code  Code
	}{
		{"nothing", nil, CodeFraming},
		{"no magic", edit(0, 0), CodeFraming},
		{"cut off", whole[:len(whole)-1], CodeFraming},
		{"cut off in the head", whole[:chunkTypeAt], CodeFraming},
		{"bytes after it", append(append([]byte(nil), whole...), 0), CodeFraming},
		{"two changes", append(append([]byte(nil), whole...), whole...), CodeFraming},
		{"a document", edit(chunkTypeAt, 0), CodeFraming},
		{"a bundle", edit(chunkTypeAt, 3), CodeFraming},
		{"overlong length", append(overlong, body...), CodeFraming},
		{"wrong checksum", edit(5, whole[5]^1), CodeChecksum},
		{"wrong content", edit(len(whole)-1, whole[len(whole)-1]^1), CodeChecksum},
		{"no deflate stream", withStream([]byte("\xff\xff\xff")), CodeDeflate},
		{"deflate cut off", withStream(padded[:len(padded)-4]), CodeDeflate},
		{"bytes after the deflate stream", withStream(padded), CodeDeflate},
		{"too large", frame(typeChange, make([]byte, 5<<20)), CodeChangeSize},
		{"a bomb", frame(typeDeflated, make([]byte, 64<<20)), CodeChangeSize},
		{"an empty body", frame(typeChange, nil), CodeHeader},
		{"deps cut off", frame(typeChange, []byte{3, 1, 2}), CodeHeader},
		{"header cut off", frame(typeChange, body[:5]), CodeHeader},
		{"columns cut off", frame(typeChange, body[:len(body)-1]), CodeColumns},
		{"a column too many", frame(typeChange, append(body[:14:14], 15)), CodeColumns},
	} {
		checkRefusal(t, tt.name, tt.chunk, Limits{}, tt.code)
	}
}

// TestColumnList checks the list of columns itself.
func TestColumnList(t *testing.T) {
	for _, tt := range []struct {
		name    string
		columns string
	}{
		{"unknown", "\x01\x61\x01\x00"},
		{"deflated", "\x01\x4a\x01\x00"},
		{"out of order", "\x02\x42\x01\x34\x01\x7f\x01"},
		{"twice", "\x02\x34\x01\x34\x01\x01\x01"},
		{"empty", "\x01\x57\x00"},
		{"overlong", "\x01\xb4\x00\x01\x01"},
		{"a list that ends early", "\x03\x34\x01"},
		{"data that ends early", "\x01\x34\x7f\x01"},
	} {
		body := columnar.AppendText([]byte{0}, string(alice))
		body = append(body, 1, 1, 0, 0, 0)
		checkRefusal(t, tt.name, frame(typeChange, append(body, tt.columns...)), Limits{}, CodeColumns)
	}
}

func TestLimits(t *testing.T) {
	first := decoded(t, firstChange())
	chunk := newDraft(secondChange(first)).chunk()
	for _, tt := range []struct {
		lim  Limits
		want Code
	}{
		{Limits{ChangeBytes: 100}, CodeChangeSize},
		{Limits{Ops: secondOps - 1}, CodeTooManyOps},
		{Limits{Preds: 3}, CodePreds},
	} {
		checkRefusal(t, string(tt.want), chunk, tt.lim, tt.want)
	}
	if _, err := DecodeChange(chunk, Limits{Ops: secondOps, Preds: 4, Deps: 1, Actors: 1}); err != nil {
		t.Errorf("exactly at the limits: %v", err)
	}
}

// TestManyKeys covers the way that changes of many operations are checked for
// keys set twice.
func TestManyKeys(t *testing.T) {
	c := &Change{Actor: alice, Actors: []ActorID{alice}, Seq: 1, StartOp: 1}
	for i := range uint32(2 * fewOps) {
		op := Op{Action: Put, Keyed: true, Key: "a"}
		switch {
		case i%8 == 0 && i > 0:
			op.Action, op.Pred = Delete, []Ref{own(i)}
		case i%8 > 1 || i == 1:
			op.Pred = []Ref{own(i)}
		}
		c.Ops = append(c.Ops, op)
	}
	checkRoundTrip(t, decoded(t, c))
	c.Ops[50].Pred = nil
	checkRefusal(t, "a key set twice", newDraft(c).chunk(), Limits{}, CodeDuplicateKey)
}

func TestDecodeHeader(t *testing.T) {
	_, second := fixtures(t)
	for _, chunk := range [][]byte{second.Chunk(), frame(typeDeflated, newDraft(second).body())} {
		h, err := DecodeHeader(chunk)
		if err != nil {
			t.Fatal(err)
		}
		if h.Hash != second.Hash || h.NumOps() != secondOps || !reflect.DeepEqual(h.Deps, second.Deps) || h.Ops != nil {
			t.Errorf("header: %+v", h)
		}
	}
	if _, err := DecodeHeader(second.Chunk()[:20]); err == nil {
		t.Error("a damaged change was read")
	}
}

// TestCodes checks that every code has a sentence and that a test asks for it.
func TestCodes(t *testing.T) {
	asked := map[Code]bool{
		CodeFraming: true, CodeChecksum: true, CodeDeflate: true, CodeChangeSize: true, // TestDecodeChangeFrame
	}
	for _, h := range hostileChanges {
		asked[h.code] = true
	}
	for _, h := range hostileSequences {
		asked[h.code] = true
	}
	for code, sentence := range sentences {
		if !asked[code] {
			t.Errorf("no test is refused with %s", code)
		}
		if sentence == "" || code.Sentence() != sentence {
			t.Errorf("%s says %q", code, sentence)
		}
	}
	r := newRefusal(CodeDeps, "")
	if r.Error() != CodeDeps.Sentence() {
		t.Errorf("without a hash: %q", r.Error())
	}
	r.Change = Hash{1}
	if !strings.Contains(r.Error(), r.Change.String()) {
		t.Errorf("with a hash: %q", r.Error())
	}
}
