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
		inContest := map[*pickStory]bool{}
		for _, c := range story.contests {
			view := contestView{Label: label}
			for _, p := range c.picks {
				inContest[p] = true
				view.Picks = append(view.Picks, p.view())
			}
			if c.settled != nil {
				view.Settled = c.settled.text()
			}
			v.Contests = append(v.Contests, view)
		}
		for _, p := range story.picks {
			if e := p.overruler(); e != nil && !inContest[p] {
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

func (e *ending) text() string {
	if e.pick == nil {
		return fmt.Sprintf("%s withdrew what was picked, %s (receipt %d)", shown(e.by), timeText(e.received), e.n)
	}
	return fmt.Sprintf("%s picked %s, knowing of the picks above, %s (receipt %d)", shown(e.by), clip(valueText(e.pick.Value)), timeText(e.received), e.n)
}

// timeline shows the whole log.
func (a *account) timeline(v *reportView) {
	picks := make(map[crdt.OpID]*transaction.Pick)
	for i := range a.entries {
		e, receipt := &a.entries[i], &a.src.Receipts[i]
		line := lineView{
			N: i, When: timeText(receipt.At), Who: shown(receipt.User), Role: string(receipt.Role),
			Change: hashShort(e.hash), Outside: !e.inPast,
		}
		for j := range e.deeds {
			d := &e.deeds[j]
			line.Did = append(line.Did, a.deedText(d, picks))
			if d.Pick != nil {
				picks[d.Op] = d.Pick
			}
		}
		if e.actor == transaction.GenesisActor {
			line.Did = []string{"The transaction began. This first change is the same wherever it is made."}
		} else if line.Did == nil {
			line.Did = []string{"Changed nothing that is left."}
		}
		if line.Outside {
			v.Outside++
		}
		v.Timeline = append(v.Timeline, line)
	}
}

func (a *account) deedText(d *deed, picks map[crdt.OpID]*transaction.Pick) string {
	label := a.labelOf(d.Field)
	var instead []string
	for _, op := range d.Superseded {
		if p := picks[op]; p != nil {
			instead = append(instead, clip(valueText(p.Value))+" by "+shown(p.By))
		}
	}
	inPlaceOf := ""
	if instead != nil {
		inPlaceOf = ", in place of " + strings.Join(instead, " and ")
	}
	switch d.Kind {
	case transaction.Picked:
		option := ""
		if d.Pick.Option != "" {
			option = " (option " + shown(d.Pick.Option) + ")"
		}
		return label + ": picked " + clip(valueText(d.Pick.Value)) + option + inPlaceOf
	case transaction.Withdrawn:
		return label + ": withdrew " + strings.Join(instead, " and ")
	case transaction.FieldRemoved:
		return label + ": removed the field"
	}
	return label + ": defined the field" + definitionText(d.definition)
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
			text += " of " + shown(o.Source)
		}
		parts = append(parts, text)
	}
	if parts == nil {
		return ""
	}
	return ": " + strings.Join(parts, "; ")
}
