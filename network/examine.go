package network

import (
	"context"
	"slices"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// Examine looks for links, bridges and namespaces of this instance that belong to no container, and for rules and bridges that should
// be there. alive are the containers that may have a network; what it mends disturbs none of them.
func (n *Networks) Examine(ctx context.Context, fix bool, alive func(brig.ID) bool, d *brig.Diagnosis) error {
	n.mu.Lock()
	var ended []brig.ID
	for id := range n.at {
		if !alive(id) {
			ended = append(ended, id)
		}
	}
	n.mu.Unlock()
	for _, id := range ended {
		d.Add(brig.Finding{Check: "network", Subject: id.Short(), Problem: "it has an address, but its container is gone", Mend: "take it out of its networks"}, fix,
			func() error { return n.Detach(ctx, id) })
	}
	first, err := n.strays()
	if err != nil {
		return err
	}
	if len(first) > 0 {
		select { // a link that is just going takes this long
		case <-time.After(2 * linkGrace):
		case <-ctx.Done():
			return ctx.Err()
		}
		second, err := n.strays()
		if err != nil {
			return err
		}
		for _, s := range second {
			if slices.Contains(first, s) {
				d.Add(brig.Finding{Check: "network", Subject: s, Problem: "it belongs to no container and no network", Mend: "delete it"}, fix, func() error { return n.scrap(s) })
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, problem := range n.problems() {
		d.Add(brig.Finding{Check: "network", Subject: "host", Problem: problem, Mend: "make it again"}, fix, n.remake)
	}
	for _, note := range n.notes() {
		d.Add(brig.Finding{Check: "host", Subject: "network", Problem: note.problem, Command: note.command, Note: true}, false, nil)
	}
	return nil
}

// Notes says what of this host keeps packets from containers, or what brig has changed there so that it doesn't.
func (n *Networks) Notes() (out []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, note := range n.notes() {
		out = append(out, note.String())
	}
	return out
}

func (n *Networks) notes() []note { return n.host.notes(len(n.up) > 0) }

// A note is about the host, and for the operator to judge.
type note struct {
	problem string
	command string // what mends it; "": nothing, or it takes more than a command
}

func (n note) String() string {
	if n.command == "" {
		return n.problem
	}
	return n.problem + " (" + n.command + ")"
}

// strays lists links and files of namespaces that no container here has, and bridges of no network.
func (n *Networks) strays() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host.strays(n.keep(), n.bridges())
}

// scrap deletes one of what strays lists.
func (n *Networks) scrap(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host.scrap(name)
}
