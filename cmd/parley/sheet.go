package main

import (
	"encoding/json"

	"parley/crdt"
	"parley/crdt/transaction"
	"parley/sync/client"
	"parley/sync/presence"
	"parley/sync/wire"
)

// Where a sheet comes from.
const (
	fromServer  = "server"
	fromReplica = "replica"
)

// sheet is a transaction as the commands show it. Its JSON is that of
// GET /v1/transactions/{id}, and where it comes from.
type sheet struct {
	ID        transaction.ID        `json:"id"`
	Document  string                `json:"document"`
	URL       string                `json:"url"`
	Heads     []string              `json:"heads"`
	Fields    map[string]sheetField `json:"fields"`
	Contested []string              `json:"contested"`
	Missing   []string              `json:"missing"`

	// What only the server knows.
	Parties []string `json:"parties,omitempty"`
	Quorum  int      `json:"quorum,omitempty"`
	Policy  string   `json:"policy,omitempty"`

	// Resolution is the agreement over Heads, nil if there is none or none is
	// known; Resolutions are those that are known.
	Resolution  *presence.Resolution  `json:"resolution"`
	Resolutions []presence.Resolution `json:"resolutions,omitempty"`

	From    string `json:"from"`              // the server, or the replica
	Saved   bool   `json:"saved"`             // the server has all of it
	Pending int    `json:"pending,omitempty"` // changes that it does not have
}

type sheetField struct {
	transaction.Field
	Defined   bool   `json:"defined"`
	Contested bool   `json:"contested"`
	Picks     []pick `json:"picks"` // the winner first
}

type pick struct {
	Value  json.RawMessage `json:"value"`
	Option string          `json:"option,omitempty"`
	By     string          `json:"by"`
	At     int64           `json:"at"` // milliseconds since 1970
	Change string          `json:"change"`
	Actor  string          `json:"actor"`
	Op     string          `json:"op"`
}

// event is one step of a history, as GET /v1/transactions/{id}/history has it.
type event struct {
	Kind       transaction.EventKind `json:"kind"`
	Field      string                `json:"field"`
	Pick       *pick                 `json:"pick,omitempty"`
	User       string                `json:"user,omitempty"`
	At         int64                 `json:"at"`
	Change     string                `json:"change"`
	Actor      string                `json:"actor"`
	Superseded []string              `json:"superseded"`
}

// sheetOf is what a replica says.
func sheetOf(id transaction.ID, v client.View) *sheet {
	doc := id.Document()
	s := &sheet{
		ID: id, Document: doc.String(), URL: wire.URL{Document: doc}.String(),
		Heads: []string{}, Fields: make(map[string]sheetField),
		Contested: listed(v.Contested), Missing: listed(v.Missing),
		From: fromReplica, Saved: v.Synced.Saved, Pending: v.Synced.Pending,
	}
	for _, h := range v.Heads {
		s.Heads = append(s.Heads, h.String())
	}
	s.Resolutions = v.Resolutions
	for i := range v.Resolutions {
		if v.Resolutions[i].Over(v.Heads) {
			s.Resolution = &v.Resolutions[i]
		}
	}
	for name, f := range v.Fields {
		s.Fields[name] = sheetField{Field: f, Defined: true, Picks: []pick{}}
	}
	for _, sel := range v.Selections {
		f := s.Fields[sel.Field]
		if f.Options == nil {
			f.Options = map[string]transaction.Option{}
		}
		f.Contested, f.Picks = sel.Contested(), nil
		for i := range sel.Picks {
			f.Picks = append(f.Picks, *pickOf(&sel.Picks[i]))
		}
		s.Fields[sel.Field] = f
	}
	return s
}

// sheetAt is what a replica said at earlier heads.
func sheetAt(id transaction.ID, v client.View, then *transaction.State) *sheet {
	v.Heads, v.Fields, v.Selections = then.Heads(), then.Fields(), then.Selections()
	v.Contested, v.Missing = then.Contested(), then.Missing()
	return sheetOf(id, v)
}

func pickOf(p *transaction.Pick) *pick {
	return &pick{
		Value: p.Value, Option: p.Option, By: p.By, At: p.At,
		Change: p.Change.String(), Actor: p.Actor.String(), Op: p.Op.String(),
	}
}

func eventsOf(all []transaction.Event) []event {
	events := make([]event, 0, len(all))
	for i := range all {
		e := &all[i]
		v := event{
			Kind: e.Kind, Field: e.Field, User: e.User, At: e.At,
			Change: e.Change.String(), Actor: e.Actor.String(), Superseded: texts(e.Superseded),
		}
		if e.Pick != nil {
			v.Pick = pickOf(e.Pick)
		}
		events = append(events, v)
	}
	return events
}

func texts(ops []crdt.OpID) []string {
	list := make([]string, 0, len(ops))
	for _, op := range ops {
		list = append(list, op.String())
	}
	return list
}

// listed makes an empty list of nil, so that JSON has [] and not null.
func listed(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
