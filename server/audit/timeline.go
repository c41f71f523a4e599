package audit

import (
	"fmt"
	"slices"
	"strings"

	"parley/crdt"
	"parley/crdt/transaction"
)

// disputes shows what was contested, and whose picks gave way to somebody
// else's.
func (a *account) disputes(v *reportView) {
	for _, name := range a.fieldNames() {
		story := a.stories[name]
		if story == nil {
			continue
		}
		label := a.labelOf(name)
		for _, c := range story.contests {
			view := contestView{Label: label}
			for _, p := range c.picks {
				view.Picks = append(view.Picks, p.view())
			}
			if c.settled != nil {
				view.Settled = c.settlement()
			}
			v.Contests = append(v.Contests, view)
		}
		for _, p := range story.picks {
			if e := p.overruler(); e != nil && p.contest == nil {
				v.Overruled = append(v.Overruled, overruledOf(label, p, e))
			}
		}
	}
}

// overruler is what took the place of a pick and was not its author's doing, nil
// if nothing did.
func (p *pickStory) overruler() *ending {
	i := slices.IndexFunc(p.ended, func(e *ending) bool { return e.by != p.By })
	if i < 0 || p.live {
		return nil
	}
	return p.ended[i]
}

func overruledOf(label string, p *pickStory, e *ending) overruledView {
	v := overruledView{
		Label: label, Value: clip(valueText(p.Value)), By: shown(p.By), When: timeText(p.received),
		Instead: "withdrawn", InsteadBy: shown(e.by), InsteadWhen: timeText(e.received),
	}
	if e.pick != nil {
		v.Instead = clip(valueText(e.pick.Value))
	}
	return v
}

// settlement says how a contest ended.
func (c *contest) settlement() string {
	e := c.settled
	what := "withdrew what was picked"
	switch {
	case e.pick != nil:
		what = fmt.Sprintf("picked %s, knowing of the picks above", clip(valueText(e.pick.Value)))
	case c.left != nil:
		what = fmt.Sprintf("withdrew a pick, which left %s by %s", clip(valueText(c.left.Value)), shown(c.left.By))
	}
	return fmt.Sprintf("%s %s, %s (receipt %d)", shown(e.by), what, timeText(e.received), e.n)
}

// timeline shows the whole log, and between the changes the agreements.
func (a *account) timeline(v *reportView) {
	picks := make(map[crdt.OpID]*transaction.Pick)
	resolutions := a.resolutions
	for i := range a.entries {
		line := a.line(i, picks)
		if line.Outside {
			v.Outside++
		}
		v.Timeline = append(v.Timeline, line)
		if len(resolutions) > 0 && resolutions[0].size == i+1 {
			r := &resolutions[0]
			v.Timeline = append(v.Timeline, lineView{When: timeText(r.At), Sealed: fmt.Sprintf("Agreement %d, by %s", r.N, and(r.Parties))})
			resolutions = resolutions[1:]
		}
	}
}

func (a *account) line(i int, picks map[crdt.OpID]*transaction.Pick) lineView {
	e, receipt := &a.entries[i], &a.src.Receipts[i]
	line := lineView{
		N: i, When: timeText(receipt.At), Who: shown(receipt.User), Role: string(receipt.Role), Change: e.hash.String()[:10], Outside: !e.inPast,
	}
	for j := range e.deeds {
		d := &e.deeds[j]
		line.Did = append(line.Did, deedView{a.labelOf(d.Field), deedText(d, picks)})
		if d.Pick != nil {
			picks[d.Op] = d.Pick
		}
	}
	switch {
	case e.actor == transaction.GenesisActor:
		line.Who, line.Role = "", ""
		line.Did = []deedView{{"", "The transaction began. This first change is nobody’s: it is the same wherever it is made."}}
	case line.Did == nil:
		line.Did = []deedView{{"", "Changed nothing that is left."}}
	}
	return line
}

func deedText(d *deed, picks map[crdt.OpID]*transaction.Pick) string {
	var instead []string
	for _, op := range d.Superseded {
		if p := picks[op]; p != nil {
			instead = append(instead, clip(valueText(p.Value))+" by "+shown(p.By))
		}
	}
	switch d.Kind {
	case transaction.Picked:
		text := "picked " + clip(valueText(d.Pick.Value))
		if d.Pick.Option != "" {
			text += " (option " + shown(d.Pick.Option) + ")"
		}
		if instead != nil {
			text += ", in place of " + strings.Join(instead, " and ")
		}
		return text
	case transaction.Withdrawn:
		return "withdrew " + strings.Join(instead, " and ")
	case transaction.FieldRemoved:
		return "removed the field"
	}
	return "defined the field" + definitionText(d.definition)
}

func definitionText(f *transaction.Field) string {
	if f == nil {
		return ""
	}
	var parts []string
	if f.Required {
		parts = append(parts, "required")
	}
	for _, o := range optionForms(f.Options) {
		text := clip(valueText(o.Value))
		if o.Source != "" {
			text += " from " + shown(o.Source)
		}
		parts = append(parts, text)
	}
	if parts == nil {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}
