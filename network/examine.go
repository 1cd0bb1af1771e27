package network

import (
	"context"
	"slices"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// Examine looks for links and namespaces of this instance that belong to no container, and for rules and a bridge that should be there.
// alive are the containers that may have a network; what it mends disturbs none of them.
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
		d.Add(brig.Finding{Check: "network", Subject: id.Short(), Problem: "it has an address, but its container is gone", Mend: "take it out of its network"}, fix,
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
				d.Add(brig.Finding{Check: "network", Subject: s, Problem: "it belongs to no container", Mend: "delete it"}, fix, func() error { return n.scrap(s) })
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.find("bridge")
	if n.host.up && w != nil {
		for _, problem := range n.host.missing(w) {
			d.Add(brig.Finding{Check: "network", Subject: w.Name, Problem: problem, Mend: "make it again"}, fix, func() error {
				n.host.up = false
				return n.ready(ctx, w)
			})
		}
	}
	for _, note := range n.host.notes() {
		d.Add(brig.Finding{Check: "host", Subject: "network", Problem: note, Note: true}, false, nil)
	}
	return nil
}

// strays lists links and files of namespaces that no container here has.
func (n *Networks) strays() ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	keep := map[brig.ID]brig.ID{}
	for id, p := range n.at {
		keep[id] = p.endpoint.EndpointID
	}
	return n.host.strays(keep)
}

// scrap deletes one of what strays lists.
func (n *Networks) scrap(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.host.scrap(name)
}
