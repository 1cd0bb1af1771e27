package network

import (
	"errors"
	"slices"
	"time"
)

// The host is looked at after something has changed there, and now and then in any case.
const (
	healPause = 200 * time.Millisecond
	healEvery = time.Minute
)

// watch mends what others take away from bridges and rules. It ends with Close.
func (n *Networks) watch() {
	events, stop := n.host.watch()
	defer stop()
	slow := time.NewTicker(healEvery)
	defer slow.Stop()
	var last []string // what was mended last, and is not tried again before the next slow look
	for {
		select {
		case <-n.closing:
			return
		case <-slow.C:
			last = nil
		case <-events:
			select { // others may not be done yet
			case <-time.After(healPause):
			case <-n.closing:
				return
			}
			select { // what came meanwhile is looked at with it
			case <-events:
			default:
			}
		}
		last = n.heal(last)
	}
}

// heal looks at the host, and mends what is not as it should be, unless it is just what it was before: mending changes rules, of which the
// kernel tells as well. It returns what it has mended, or couldn't.
func (n *Networks) heal(last []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	problems := n.problems()
	if len(problems) == 0 || slices.Equal(problems, last) {
		return problems
	}
	n.log.Warn("somebody has changed brig's networks on this host; mending", "problems", problems)
	if err := n.remake(); err != nil {
		n.log.Error("mend networks", "err", err)
	}
	return n.problems()
}

// problems says what of bridges, links and rules is not there. The caller holds mu.
func (n *Networks) problems() (out []string) {
	for _, w := range n.nets {
		if n.up[w.ID] && !n.host.bridged(w.Bridge) {
			out = append(out, "the bridge "+w.Bridge+" is gone, or down")
		}
	}
	if links, err := n.host.members(); err == nil {
		for _, p := range n.at {
			if !n.host.hasNetns(p.id) {
				continue // it has ended, and is about to be detached
			}
			for name, ep := range p.eps {
				for _, link := range n.host.linkNames(ep) {
					if links[link] != n.find(name).Bridge {
						out = append(out, "a link of container "+p.id.Short()+" is not in the bridge "+n.find(name).Bridge)
					}
				}
			}
		}
	}
	if len(n.up) > 0 {
		out = append(out, n.host.missing()...)
	}
	slices.Sort(out)
	return out
}

// remake makes bridges, links and rules again. The caller holds mu.
func (n *Networks) remake() error {
	var err error
	for _, w := range n.nets {
		if n.up[w.ID] {
			err = errors.Join(err, n.host.ensure(w, optionsOf(w)))
		}
	}
	n.host.forget()
	return errors.Join(err, n.mend(false), n.program())
}
