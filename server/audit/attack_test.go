package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/presence"
)

// TestServersOwnLies: who holds the real key signs a story of their own. What the
// changes, their authors or the parties' checkpoints contradict is found.
func TestServersOwnLies(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(s *scene)
		want string
	}{
		{"another user", func(s *scene) { s.src.Receipts[2].User = "bob" }, `change 2: ` + "@2" + `, delivered by "bob" as "party", breaks the rules: a pick is made in the name of somebody other`},
		{"nobody", func(s *scene) { s.src.Receipts[2].User = "" }, "breaks the rules"},
		{"another role", func(s *scene) { s.src.Receipts[2].Role = transaction.Viewer }, "viewers and auditors may read"},
		{"a role that there is not", func(s *scene) { s.src.Receipts[0].Role = "king" }, "a role that there is not"},
		{"a host's fields by a party", func(s *scene) { s.src.Receipts[1].Role = transaction.Party }, "only a host may write fields"},
		{"another actor", func(s *scene) { s.src.Receipts[2].Actor = "x" }, "its receipt names 78"},
		{"another number", func(s *scene) { s.src.Receipts[2].N = 3 }, "counts as number 3"},
		{"another change", func(s *scene) { s.src.Receipts[2].Change = s.src.Receipts[1].Change }, "its receipt is of @1"},
		{"another time", func(s *scene) { s.src.Receipts[2].At++ }, "resolution 1: its checkpoint is over another log: the root of the first 9 receipts"},
		{"a receipt too many", func(s *scene) { s.src.Receipts = append(s.src.Receipts, s.src.Receipts[2]) }, "12 changes and 13 receipts"},
		{"a change left out", func(s *scene) { s.cutOut(3); s.src.Resolutions = nil }, "depends on @3, which does not stand before it"},
		{"the last change left out", func(s *scene) { s.cutOut(11) }, "resolution 2: the log had 12 receipts then, and has 11 in this record"},
		{"a change twice", func(s *scene) { s.repeat(2) }, "stands twice"},
		{"no change", func(s *scene) { s.src.Changes, s.src.Receipts = nil, nil }, "not even the first"},
		{"the first change left out", func(s *scene) { s.cutOut(0); s.src.Resolutions = nil }, "depends on @0"},
		{"two changes in another order", func(s *scene) { s.swap(5, 6) }, "resolution 1: its checkpoint is over another log"},
		{"two changes against their order", func(s *scene) { s.swap(3, 4) }, "which does not stand before it"},
		{"an agreement left out", func(s *scene) { s.src.Resolutions = s.src.Resolutions[1:] }, "resolution 1: it counts as number 2"},
		{"an agreement left out, renumbered", func(s *scene) {
			s.src.Resolutions = s.src.Resolutions[1:]
			s.src.Resolutions[0].N = 1
		}, `its checkpoint says otherwise, in line 5: "resolution 2" there, "resolution 1" in the record`},
		{"others agreed", func(s *scene) { s.src.Resolutions[0].Parties = []string{"alice"} }, "1 agreed to it, and 2 had to"},
		{"others agreed, of fewer", func(s *scene) { s.src.Resolutions[0].Parties, s.src.Resolutions[0].Quorum = []string{"alice"}, 1 }, `"parties [\"alice\",\"bob\"]" there, "parties [\"alice\"]" in the record`},
		{"fewer had to agree", func(s *scene) { s.src.Resolutions[0].Quorum = 1 }, `"quorum 2" there, "quorum 1"`},
		{"agreed at another time", func(s *scene) { s.src.Resolutions[0].At++ }, "its checkpoint says otherwise, in line 10"},
		{"agreed on something else", func(s *scene) { s.src.Resolutions[0].Heads = s.hashes(7) }, "it is over the heads @7, and when the log had 9 receipts the heads were @8"},
		{"another agreement's checkpoint", func(s *scene) { s.src.Resolutions[1].Checkpoint = s.src.Resolutions[0].Checkpoint }, "resolution 2: the log had 9 receipts then, and 9 at the one before"},
		{"another transaction's checkpoint", func(s *scene) { s.src.Resolutions[0].Checkpoint = small(s.t).src.Resolutions[0].Checkpoint }, "not by this key"},
		{"no checkpoint at all", func(s *scene) { s.src.Resolutions[0].Checkpoint = "x" }, "resolution 1: its checkpoint: the signature does not hold"},
		{"a statement for a checkpoint", func(s *scene) {
			fs, err := unpack(s.record())
			s.must(err)
			s.src.Resolutions[1].Checkpoint = string(fs[fileStatement])
		}, `the checkpoint says "needed" 0 times`},
		{"an agreement over what is contested", func(s *scene) { s.sealAt(7, "alice", "bob") }, `resolution 1: "price" was contested then`},
		{"an agreement with something missing", func(s *scene) { s.sealAt(3, "alice", "bob") }, `nothing was picked for "closing" then, which is required`},
		{"an agreement by somebody else", func(s *scene) { s.sealAt(9, "alice", "eve") }, `"eve" agreed to it, whom nobody asked`},
		{"an agreement by one twice", func(s *scene) { s.sealAt(9, "alice", "alice") }, `"alice" stands twice`},
		{"an agreement by too few", func(s *scene) { s.sealAt(9, "alice") }, "1 agreed to it, and 2 had to"},
		{"an agreement by nobody", func(s *scene) { s.src.Settings.Parties = nil; s.sealAt(9) }, "0 agreed to it"},
		{"an agreement over no state", func(s *scene) { s.src.Resolutions[0].Heads, s.src.Resolutions[0].Checkpoint = nil, "" }, "the log had 0 receipts then"},
		{"an agreement over what is not there", func(s *scene) { s.src.Resolutions[0].Heads, s.src.Resolutions[0].Checkpoint = []crdt.Hash{{1}}, "" }, "which it is over"},
		{"a damaged change", func(s *scene) {
			s.src.Changes[2] = bytes.Replace(s.src.Changes[2], []byte("alice"), []byte("alicf"), 1)
		}, "change 2: the checksum of the change does not match"},
		{"another transaction", func(s *scene) { s.src.Transaction = "other" }, "resolution 1: its checkpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sale(t)
			hashes := s.hashes(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
			c.lie(s)
			want := c.want
			for i := len(hashes) - 1; i >= 0; i-- {
				want = strings.ReplaceAll(want, fmt.Sprintf("@%d", i), hashes[i].String())
			}
			_, err := Write(s.src, s.key)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v\nwant %s", err, want)
			}
			// And the same, had it been signed.
			_, err = Verify(s.sign(), s.key.Public(), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("signed: %v\nwant %s", err, want)
			}
		})
	}
}

// sign makes a record of a scene without looking whether it holds: of what
// cannot be known then, that of the honest scene stands in it.
func (s *scene) sign() []byte {
	s.t.Helper()
	a := &account{src: s.src, doc: s.src.Transaction.Document(), public: s.key.Public(), state: s.state, heads: s.state.Heads()}
	for i := range s.src.Receipts {
		a.log.Append(s.src.Receipts[i].Leaf())
	}
	for _, r := range s.src.Resolutions {
		a.resolutions = append(a.resolutions, sealed{Resolution: r})
	}
	var err error
	a.root, err = a.log.Root(a.log.Size())
	s.must(err)
	fs := files{fileDocument: bytes.Join(s.src.Changes, nil), fileReceipts: a.receiptsJSONL(), fileRecord: a.recordJSON()}
	if fs[fileDocument] == nil {
		fs[fileDocument] = []byte{}
	}
	signed, err := s.key.Sign(a.statement(fs))
	s.must(err)
	fs[fileStatement] = []byte(signed)
	return mustPack(s.t, fs)
}

func (s *scene) hashes(at ...int) (hs []crdt.Hash) {
	for _, i := range at {
		hs = append(hs, s.src.Receipts[i].Change)
	}
	return hs
}

// cutOut takes a change and its receipt out, and numbers the others anew.
func (s *scene) cutOut(i int) {
	s.src.Changes = slices.Delete(slices.Clone(s.src.Changes), i, i+1)
	s.src.Receipts = slices.Delete(slices.Clone(s.src.Receipts), i, i+1)
	s.renumber()
}

func (s *scene) repeat(i int) {
	s.src.Changes = slices.Insert(slices.Clone(s.src.Changes), i, s.src.Changes[i])
	s.src.Receipts = slices.Insert(slices.Clone(s.src.Receipts), i, s.src.Receipts[i])
	s.renumber()
}

func (s *scene) swap(i, j int) {
	s.src.Changes[i], s.src.Changes[j] = s.src.Changes[j], s.src.Changes[i]
	s.src.Receipts[i], s.src.Receipts[j] = s.src.Receipts[j], s.src.Receipts[i]
	s.renumber()
}

func (s *scene) renumber() {
	for i := range s.src.Receipts {
		s.src.Receipts[i].N = i
	}
}

// sealAt makes the only agreement be one over the first changes, properly
// signed.
func (s *scene) sealAt(size int, parties ...string) {
	s.t.Helper()
	then := transaction.New(s.src.Transaction)
	for _, chunk := range s.src.Changes[:size] {
		c, err := crdt.DecodeChange(chunk, crdt.Limits{})
		s.must(err)
		s.must(then.Apply(c))
	}
	quorum := max(len(s.src.Settings.Parties), 1)
	r := presence.Resolution{N: 1, Heads: then.Heads(), Parties: parties, Quorum: quorum, At: 1}
	root, err := s.log.Root(size)
	s.must(err)
	c := ResolutionCheckpoint(s.key.Public().Origin(s.src.Transaction.Document()), size, root, s.src.Transaction, r, s.src.Settings.Parties)
	r.Checkpoint, err = s.key.Sign(c)
	s.must(err)
	s.src.Resolutions = []presence.Resolution{r}
}

// TestForeignActor: an actor is one user's, also in the record.
func TestForeignActor(t *testing.T) {
	s := newScene(t, "actors")
	s.pick("alice", "f", "1", "")
	e := s.state.Edit(s.src.Receipts[1].Actor, "bob", s.at())
	s.must(e.Pick("f", []byte("2"), ""))
	c, err := e.Change()
	s.must(err)
	s.arrive("bob", c)
	if _, err := Write(s.src, s.key); err == nil || !strings.Contains(err.Error(), "an actor that belongs to somebody else") {
		t.Errorf("%v", err)
	}
}

// TestStatementsLies: everything is as it should be but the statement.
func TestStatementsLies(t *testing.T) {
	s := small(t)
	fs, _ := verified(t, s)
	whole, err := s.key.Public().Open(s.src.Transaction.Document(), string(fs[fileStatement]))
	s.must(err)
	for _, c := range []struct {
		name string
		lie  func(c *Checkpoint)
		want string
	}{
		{"size", func(c *Checkpoint) { c.Size++ }, "the log has 5 receipts there, and 4 in receipts.jsonl"},
		{"no size", func(c *Checkpoint) { c.Size = -4 }, "the log has -4 receipts there"},
		{"root", func(c *Checkpoint) { c.Root[0] ^= 1 }, "the root of the receipts is"},
		{"another document", func(c *Checkpoint) { c.Origin = s.key.Public().Origin(transaction.ID("x").Document()) }, "is of the log"},
		{"no document", func(c *Checkpoint) { c.Origin = "parley-test/x" }, "its first line"},
		{"another name", func(c *Checkpoint) { c.Origin = "x/y" }, `it is by "x", and the key is that of "parley-test"`},
		{"heads", func(c *Checkpoint) { c.Says[2].Text = strings.Repeat("0", 64) }, "line 6 is"},
		{"format", func(c *Checkpoint) { c.Says[0].Text = "parley-record/2" }, "line 4 is"},
		{"a word more", func(c *Checkpoint) { c.Says = append(c.Says, Saying{"so", "what"}) }, `line 12 is "so what", and should be ""`},
		{"another order", func(c *Checkpoint) { c.Says[0], c.Says[1] = c.Says[1], c.Says[0] }, "line 4 is"},
		{"a file not named", func(c *Checkpoint) { c.Says = c.Says[:7] }, "it does not say what report.html holds"},
		{"a file twice", func(c *Checkpoint) { c.Says = append(c.Says, c.Says[7]) }, "line 12 is"},
		{"a file of another hash", func(c *Checkpoint) { c.Says[7].Text = "report.html " + strings.Repeat("0", 64) }, "report.html is not the file that was signed"},
	} {
		lie := whole
		lie.Says = slices.Clone(whole.Says)
		c.lie(&lie)
		signed, err := s.key.Sign(lie)
		s.must(err)
		_, err = Verify(mustPack(t, fs.with(fileStatement, []byte(signed))), s.key.Public(), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

// TestRecordsLies: record.json is about something else than the log.
func TestRecordsLies(t *testing.T) {
	s := sale(t)
	fs, _ := verified(t, s)
	text := string(fs[fileRecord])
	hashes := s.hashes(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	for _, c := range []struct{ name, old, instead, want string }{
		{"earlier heads", hashes[11].String() + "\"\n  ],\n  \"log\"", hashes[8].String() + "\"\n  ],\n  \"log\"", "change 11 came to the log after all that the record is about"},
		{"heads that there are not", hashes[11].String() + "\"\n  ],\n  \"log\"", strings.Repeat("0", 64) + "\"\n  ],\n  \"log\"", "there is no change 000"},
		{"no heads", `"` + hashes[11].String() + "\"\n  ],\n  \"log\"", "],\n  \"log\"", "change 11 came to the log after"},
		{"another format", Format, "parley-record/2", `its format is "parley-record/2", and this program reads "parley-record/1"`},
		{"no transaction", `"transaction": "sale-14-harbour-road"`, `"transaction": "a b"`, "only A-Z"},
		{"another policy", `"reopen"`, `"lock"`, "report.html does not say what the changes say"},
		{"another party", "\"alice\",\n    \"bob\"\n  ],\n  \"quorum\"", "\"alice\",\n    \"carol\"\n  ],\n  \"quorum\"", "report.html does not say what the changes say"},
		{"another value", `"value": 405000`, `"value": 405001`, `record.json does not say what the changes say, from line`},
		{"another key", `"quorum": 0`, `"quota": 0`, "unknown field"},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: there is no %q", c.name, c.old)
		}
		bad := fs.with(fileRecord, []byte(strings.Replace(text, c.old, c.instead, 1)))
		_, err := Verify(resign(t, bad, s.key), s.key.Public(), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
