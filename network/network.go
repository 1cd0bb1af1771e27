// Package network gives jails their network: bridges of the instance's own, the host's network, and none. It keeps the records of
// networks, gives out addresses, reserves and publishes ports, and tells the keeper which names and ports to serve.
//
// On Linux a container gets a network namespace bound to a file, a veth pair into each bridge, and rules in nftables tables that
// carry the instance's name. Nothing is made before it is needed, and Close removes all of it once no container is left.
package network

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Records is where networks are kept; runtime's Records has the same methods.
type Records interface {
	Put(ctx context.Context, puts, deletes []brig.Record) error
	List(ctx context.Context, kind string) ([]brig.Record, error)
}

// kind is the records' kind of networks; keys are network IDs.
const kind = "network"

// Config is what New needs.
type Config struct {
	Instance string // names bridges and rules on the host: lower-case hex, 8 digits
	Dir      string // holds the files that network namespaces are bound to
	Records  Records
	Keeper   Keeper
	Shared   bool // on FreeBSD: containers have addresses of the host's network stack, not one of their own
	Log      *slog.Logger

	LoadModules bool // load kernel modules that are missing, rather than only name them. FreeBSD alone
}

// Networks implements runtime's Networks seam.
type Networks struct {
	cfg    Config
	log    *slog.Logger
	keeper Keeper

	// serving is held while the keeper is asked, before mu if both are: what it is told and what it holds must come in one order.
	serving sync.Mutex
	served  int // the change that the keeper was told of last; guarded by serving

	mu      sync.Mutex // guards what follows, and is held while the host's state is changed
	nets    []*brig.Network
	up      map[brig.ID]bool // networks whose bridge and rules are known to be there
	pools   map[brig.ID]*pool
	at      map[brig.ID]*place // attached containers
	resting map[brig.ID]rest   // of containers that were detached a moment ago, by endpoint: their addresses are not free yet
	host    *host
	changed int // counts changes that the keeper must be told of

	watching sync.Once      // starts the watcher of the host
	closing  chan struct{}  // closed by Close: links are deleted at once
	tending  sync.WaitGroup // the watcher of the host, and one goroutine for each endpoint whose link may still be there
}

// linkGrace is how long the kernel gets to delete the link of a namespace that is gone. It does that in batches and off
// our path; deleting one ourselves takes 15 to 50 ms with the kernel's network lock held.
const linkGrace = time.Second

// New loads the networks' records, making the default ones if there are none. It changes nothing on the host.
func New(ctx context.Context, cfg Config) (*Networks, error) {
	n := &Networks{cfg: cfg, log: cfg.Log, keeper: cfg.Keeper, at: map[brig.ID]*place{}, up: map[brig.ID]bool{}, pools: map[brig.ID]*pool{}, resting: map[brig.ID]rest{},
		host: newHost(cfg), closing: make(chan struct{})}
	recs, err := cfg.Records.List(ctx, kind)
	if err != nil {
		return nil, errs.Wrap(err, "load networks")
	}
	for _, r := range recs {
		var w brig.Network
		if err := json.Unmarshal(r.Value, &w); err != nil {
			return nil, errs.Wrap(err, "record of network %s", r.Key)
		}
		n.nets = append(n.nets, &w)
	}
	for _, d := range [][2]string{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}} {
		if n.find(d[0]) == nil {
			if err := n.record(ctx, &brig.Network{ID: brig.NewID(), Name: d[0], Driver: d[1], Created: time.Now().UTC()}); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
}

// BadRecords finds the records of networks that New could not load.
func BadRecords(ctx context.Context, from Records) (bad []brig.BadRecord, err error) {
	list, err := from.List(ctx, kind)
	for _, r := range list {
		var w brig.Network
		if err := json.Unmarshal(r.Value, &w); err != nil {
			bad = append(bad, brig.BadRecord{Kind: kind, Key: r.Key, Problem: err.Error()})
		}
	}
	return bad, errs.Wrap(err, "read the records of networks")
}

func (n *Networks) save(ctx context.Context, w *brig.Network) error {
	b, err := json.Marshal(w)
	if err != nil {
		return errs.Wrap(err, "encode network %s", w.Name)
	}
	return errs.Wrap(n.cfg.Records.Put(ctx, []brig.Record{{Kind: kind, Key: string(w.ID), Value: b}}, nil), "save network %s", w.Name)
}

// find returns the network of that name, or nil. The caller holds mu, or is New.
func (n *Networks) find(name string) *brig.Network {
	for _, w := range n.nets {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// lookup finds a network by ID, name or unique ID prefix, in this order. The caller holds mu.
func (n *Networks) lookup(ref string) (*brig.Network, error) {
	var found []*brig.Network
	for _, w := range n.nets {
		if string(w.ID) == ref {
			return w, nil
		}
		if ref != "" && strings.HasPrefix(string(w.ID), ref) {
			found = append(found, w)
		}
	}
	if w := n.find(ref); w != nil {
		return w, nil
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errs.New(errs.NotFound, "network %s not found", ref)
	}
	return nil, errs.New(errs.Invalid, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

// Lookup finds a network by ID, name or unique ID prefix, in this order.
func (n *Networks) Lookup(_ context.Context, ref string) (brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, err := n.lookup(ref)
	if err != nil {
		return brig.Network{}, err
	}
	return *w, nil
}

// List returns all networks, sorted by name.
func (n *Networks) List(context.Context) ([]brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]brig.Network, 0, len(n.nets))
	for _, w := range n.nets {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b brig.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// ready sees to it that the bridge and its rules are there. The caller holds mu.
func (n *Networks) ready(ctx context.Context, w *brig.Network) error {
	if n.up[w.ID] {
		return nil
	}
	if w.Name == "bridge" {
		if err := n.place(ctx, w); err != nil {
			return err
		}
	}
	if err := n.host.ensure(w, optionsOf(w)); err != nil {
		return err
	}
	n.up[w.ID] = true
	n.watching.Do(func() { n.tending.Go(n.watch) })
	return n.program()
}

// place gives the default network a subnet, another one if the one that it has collides with something on the host by now.
func (n *Networks) place(ctx context.Context, w *brig.Network) error {
	busy, err := n.host.taken(n.host.bridgeName())
	if err != nil {
		return err
	}
	if len(w.Subnets) > 0 && !overlaps(busy, w.Subnets[0].Prefix) {
		return nil
	}
	for _, x := range n.nets {
		if x != w {
			for _, s := range x.Subnets {
				busy = append(busy, s.Prefix)
			}
		}
	}
	sub, err := choose(candidates4(), busy)
	if err != nil {
		return err
	}
	w.Subnets, w.Bridge = []brig.Subnet{sub}, n.host.bridgeName()
	return n.save(ctx, w)
}

// pool returns w's. The caller holds mu.
func (n *Networks) pool(w *brig.Network) *pool {
	p := n.pools[w.ID]
	if p == nil {
		p = &pool{}
		n.pools[w.ID] = p
	}
	return p
}

// Close releases what this process holds. With no container attached it also removes bridges and rules, and the keeper ends.
// It is called once, after all other calls have returned.
func (n *Networks) Close() error {
	close(n.closing)
	n.tending.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := errs.Wrap(n.keeper.Close(), "let go of the keeper")
	if len(n.at) > 0 {
		return err
	}
	clear(n.up)
	return errors.Join(err, errs.Wrap(n.host.remove(), "remove the bridges"))
}
