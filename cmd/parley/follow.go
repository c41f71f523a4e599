package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"parley/crdt/transaction"
	"parley/sync/client"
)

// follow prints a line for each change, until ctx ends.
func (c *joinCmd) follow(ctx context.Context, io streams, id transaction.ID, cl *client.Client) error {
	shown := make(map[string]string) // by subject
	rejected, lapsed := 0, 0
	for v := range cl.Watch(ctx) {
		if c.JSON {
			if line := sheetLine(id, v); shown["json"] != line.key {
				shown["json"] = line.key
				if err := printJSON(io.out, line); err != nil {
					return err
				}
			}
			continue
		}
		for _, r := range v.Rejections {
			if r.N > rejected {
				rejected = r.N
				fmt.Fprintln(io.out, refusalText(r))
			}
		}
		for _, l := range v.Lapses {
			if l.N > lapsed {
				lapsed = l.N
				fmt.Fprintln(io.out, lapseText(l, v.Fields))
			}
		}
		lines := slices.Concat(followLines(id, v), stallLines(v, shown), peopleLines(v, shown))
		for _, l := range lines {
			if shown[l[0]] == l[1] {
				continue
			}
			shown[l[0]] = l[1]
			if _, err := fmt.Fprintln(io.out, l[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// jsonLine is a state as join --json prints it.
type jsonLine struct {
	*sheet
	*jsonPeople
	Connection string         `json:"connection"` // offline, connecting, online or reconnecting
	Rejected   []jsonRejected `json:"rejected"`

	key string
}

type jsonRejected struct {
	Code    string   `json:"code"`
	Message string   `json:"message"`
	Changes []string `json:"changes"`
}

func sheetLine(id transaction.ID, v client.View) jsonLine {
	l := jsonLine{sheet: sheetOf(id, v), Connection: v.Status.State.String(), Rejected: []jsonRejected{}}
	if v.Status.State == client.Online && v.Synced.Current {
		l.From = fromServer
	}
	for _, r := range v.Rejections {
		j := jsonRejected{Code: r.Code, Message: r.Message}
		for _, h := range r.Changes {
			j.Changes = append(j.Changes, h.String())
		}
		l.Rejected = append(l.Rejected, j)
	}
	l.jsonPeople = jsonPeopleOf(v)
	key, err := json.Marshal(l)
	if err != nil {
		panic(err) // it is printed next
	}
	l.key = string(key)
	return l
}

// followLines says what there is to say, each line with its subject.
func followLines(id transaction.ID, v client.View) [][2]string {
	s := sheetOf(id, v)
	lines := [][2]string{{" connection", connectionLine(v)}}
	for _, name := range fieldNames(s.Fields) {
		lines = append(lines, [2]string{name, plain(name) + ": " + picksText(s.Fields[name])})
	}
	return lines
}

// stallLines says that the server ceases to save, and, if that is in shown, that it
// saves again.
func stallLines(v client.View, shown map[string]string) [][2]string {
	const subject = " stall"
	switch _, told := shown[subject]; {
	case v.Stalled():
		return [][2]string{{subject, "the server cannot save now: it keeps what it is sent, and stores it when it can"}}
	case told && v.Status.State == client.Online:
		return [][2]string{{subject, "the server saves again"}}
	}
	return nil
}

func connectionLine(v client.View) string {
	text := v.Status.State.String()
	if v.Status.State == client.Online && !v.Synced.Current {
		text = "connecting"
	}
	if v.Status.Err != nil && v.Status.State == client.Offline {
		text += " (" + plain(v.Status.Err.Error()) + ")"
	}
	return text + ", " + savedText(v.Synced)
}

func savedText(s client.Synced) string {
	if s.Saved {
		return "saved"
	}
	return count(s.Pending, "change", "changes") + " not saved yet"
}

func picksText(f sheetField) string {
	if len(f.Picks) == 0 {
		if f.Required {
			return "missing"
		}
		return "nothing picked"
	}
	var list []string
	for _, p := range f.Picks {
		list = append(list, valueText(p.Value)+" by "+plain(p.By))
	}
	if !f.Contested {
		return list[0]
	}
	list[0] += " (wins)"
	return "contested: " + strings.Join(list, ", ")
}

// refusalText is what a user hears whose change the server refused.
func refusalText(r client.Rejection) string {
	var lost []string
	for _, e := range eventsOf(r.Lost) {
		lost = append(lost, happened(e))
	}
	what := "a change"
	if len(r.Others) > 0 && len(lost) == 0 {
		return plain(r.Message)
	}
	if len(lost) > 0 {
		what = strings.Join(slices.Compact(lost), "; ")
	}
	return fmt.Sprintf("the server refused %s: %s", what, plain(r.Message))
}

// seconds rounds up: a wait of 1 s is over when it says 0.
func seconds(d time.Duration) int { return max(0, int((d+time.Second-1)/time.Second)) }
