// Package network gives jails their network: the default bridge, the host's own, and none. It keeps the records of networks,
// gives out addresses, reserves and publishes ports.
//
// On Linux a container gets a network namespace bound to a file, a veth pair into the instance's bridge, and rules in one
// nftables table that carries the instance's name. Nothing is made before the first container needs it, and Close removes all
// of it once no container is left.
package network

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
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
	Instance string // names the bridge and the rules on the host: lower-case hex, 8 digits
	Dir      string // holds the files that network namespaces are bound to
	Records  Records
	Log      *slog.Logger
}

// Networks implements runtime's Networks seam.
type Networks struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex // guards what follows, and is held while the host's state is changed
	nets  []brig.Network
	pool  pool
	ports *ports
	at    map[brig.ID]*place // attached containers
	host  *host

	closing chan struct{}  // closed by Close: links are deleted at once
	reaping sync.WaitGroup // one goroutine for each detached container whose link may still be there
}

// linkGrace is how long the kernel gets to delete the link of a namespace that is gone. It does that in batches and off
// our path; deleting one ourselves takes 15 to 50 ms with the kernel's network lock held.
const linkGrace = time.Second

// place is what one container holds.
type place struct {
	bindings []brig.PortBinding
	endpoint brig.Endpoint
}

// New loads the networks' records, making the default ones if there are none. It changes nothing on the host.
func New(ctx context.Context, cfg Config) (*Networks, error) {
	n := &Networks{cfg: cfg, log: cfg.Log, at: map[brig.ID]*place{}, ports: newPorts(), host: newHost(cfg), closing: make(chan struct{})}
	recs, err := cfg.Records.List(ctx, kind)
	if err != nil {
		return nil, errs.Wrap(err, "load networks")
	}
	for _, r := range recs {
		var w brig.Network
		if err := json.Unmarshal(r.Value, &w); err != nil {
			return nil, errs.Wrap(err, "record of network %s", r.Key)
		}
		n.nets = append(n.nets, w)
	}
	for _, d := range [][2]string{{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}} {
		if n.find(d[0]) == nil {
			n.nets = append(n.nets, brig.Network{ID: brig.NewID(), Name: d[0], Driver: d[1], Created: time.Now().UTC()})
			if err := n.save(ctx, &n.nets[len(n.nets)-1]); err != nil {
				return nil, err
			}
		}
	}
	return n, nil
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
	for i := range n.nets {
		if n.nets[i].Name == name {
			return &n.nets[i]
		}
	}
	return nil
}

// Lookup finds a network by name, ID or unique ID prefix, in this order.
func (n *Networks) Lookup(_ context.Context, ref string) (brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w := n.find(ref); w != nil {
		return *w, nil
	}
	var found []brig.Network
	for _, w := range n.nets {
		if ref != "" && strings.HasPrefix(string(w.ID), ref) {
			found = append(found, w)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return brig.Network{}, errs.New(errs.NotFound, "network %s not found", ref)
	}
	return brig.Network{}, errs.New(errs.Invalid, "network %s is ambiguous (%d matches found based on ID prefix)", ref, len(found))
}

// List returns all networks, sorted by name.
func (n *Networks) List(context.Context) ([]brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := slices.Clone(n.nets)
	slices.SortFunc(out, func(a, b brig.Network) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// mode returns the effective network mode of a container: never empty.
func mode(s *brig.Spec) string {
	switch {
	case s.NetworkDisabled:
		return "none"
	case s.NetworkMode == "" || s.NetworkMode == "default":
		return "bridge"
	}
	return s.NetworkMode
}

// Attach makes the namespace and joins the network that c's Spec names. It is undone by Detach; a failed Attach has undone itself.
func (n *Networks) Attach(ctx context.Context, c *brig.Container, owner *brig.Handle) (brig.Attachment, error) {
	m := mode(&c.Spec)
	if ref, shared := strings.CutPrefix(m, "container:"); shared {
		if owner == nil || owner.InitPID == 0 {
			return brig.Attachment{}, errs.New(errs.Conflict, "cannot join network of a non running container: %s", ref)
		}
		return brig.Attachment{Netns: n.host.netnsOf(owner.InitPID)}, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.find(m)
	if w == nil {
		return brig.Attachment{}, errs.New(errs.NotFound, "network %s not found", m)
	}
	ep := brig.Endpoint{Spec: c.Spec.Networks[m], NetworkID: w.ID, EndpointID: brig.NewID()}
	ns := brig.Netns{Kind: brig.NetnsPrivate}
	var warnings []string
	switch w.Driver {
	case "host":
		ns.Kind = brig.NetnsHost
		if len(c.Spec.Ports) > 0 {
			warnings = append(warnings, "Published ports are discarded when using host network mode")
		}
	case "bridge":
		if err := n.join(ctx, c, w, &ep); err != nil {
			return brig.Attachment{}, err
		}
		ns = brig.Netns{Kind: brig.NetnsPath, Path: n.host.netnsPath(c.ID)}
	}
	return brig.Attachment{Netns: ns, Endpoints: map[string]brig.Endpoint{m: ep}, Warnings: warnings}, nil
}

// join puts c into the bridge network w and fills in ep. The caller holds mu.
func (n *Networks) join(ctx context.Context, c *brig.Container, w *brig.Network, ep *brig.Endpoint) (err error) {
	if n.at[c.ID] != nil {
		return errs.New(errs.Conflict, "container %s is attached to network %s already", c.ID.Short(), w.Name)
	}
	if err := n.ready(ctx, w); err != nil {
		return err
	}
	sub := w.Subnets[0]
	addr, err := n.pool.take(sub, ep.Spec.IPv4)
	if err != nil {
		return err
	}
	p := &place{}
	n.at[c.ID] = p
	defer func() {
		if err != nil {
			_ = n.leave(context.WithoutCancel(ctx), c.ID) // err says what is wrong; leave logs its own
		}
	}()
	ep.Addr4, ep.Gateway4 = addr, sub.Gateway
	ep.MAC = cmp.Or(ep.Spec.MacAddress, c.Spec.MacAddress, macFor(addr.Addr()))
	p.endpoint = *ep
	bindings, err := n.ports.reserve(wanted(&c.Spec))
	if err != nil {
		return errs.Wrap(err, "driver failed programming external connectivity on endpoint %s (%s)", c.Name, ep.EndpointID)
	}
	p.bindings, ep.Ports = bindings, bindings
	p.endpoint.Ports = bindings
	if err := n.host.plug(c.ID, w, ep); err != nil {
		return err
	}
	fault.Point("net.plugged")
	if len(bindings) > 0 {
		if err := n.publish(); err != nil {
			return err
		}
		fault.Point("net.published")
	}
	return nil
}

// wanted lists the ports to publish: those asked for and, with -P, the exposed ones that weren't.
func wanted(s *brig.Spec) []brig.PortBinding {
	out := slices.Clone(s.Ports)
	if s.PublishAll {
		for _, p := range s.Exposed {
			if !slices.ContainsFunc(s.Ports, func(b brig.PortBinding) bool { return b.Port == p }) {
				out = append(out, brig.PortBinding{Port: p})
			}
		}
	}
	return out
}

// ready sees to it that the bridge and its rules are there. The caller holds mu.
func (n *Networks) ready(ctx context.Context, w *brig.Network) error {
	if n.host.up {
		return nil
	}
	if len(w.Subnets) == 0 || !n.host.usable(w.Subnets[0].Prefix, w.Bridge) {
		sub, err := n.host.chooseSubnet()
		if err != nil {
			return err
		}
		w.Subnets, w.Bridge = []brig.Subnet{sub}, n.host.bridgeName()
		if err := n.save(ctx, w); err != nil {
			return err
		}
	}
	if err := n.host.ensure(w); err != nil {
		return err
	}
	n.host.up = true
	return n.publish()
}

// publish makes the host's rules say what the places hold. The caller holds mu.
func (n *Networks) publish() error {
	w := n.find("bridge")
	if w == nil || len(w.Subnets) == 0 {
		return nil
	}
	var rules []forward
	for _, p := range n.at {
		for _, b := range p.bindings {
			rules = append(rules, forward{b, p.endpoint.Addr4.Addr()})
		}
	}
	slices.SortFunc(rules, func(a, b forward) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(b.HostIP, a.HostIP))
	})
	return errs.Wrap(n.host.program(w, rules), "publish ports")
}

// Detach takes the container out of its network. It is idempotent.
func (n *Networks) Detach(ctx context.Context, id brig.ID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leave(ctx, id)
}

// leave does Detach's work; every part is tried. The caller holds mu.
func (n *Networks) leave(_ context.Context, id brig.ID) error {
	p := n.at[id]
	if p == nil {
		return nil
	}
	delete(n.at, id)
	var err error
	if len(p.bindings) > 0 {
		err = n.publish()
		fault.Point("net.unpublished")
		n.ports.release(p.bindings)
	}
	if e := n.host.release(id); e != nil {
		err = e
	}
	fault.Point("netns.removed")
	n.reaping.Go(func() { n.reap(p.endpoint) })
	if err != nil {
		n.log.Warn("detach from network", "container", id.Short(), "err", err)
	}
	return errs.Wrap(err, "detach %s from its network", id.Short())
}

// reap deletes the link of a detached container, if the kernel hasn't within linkGrace, and frees its address.
func (n *Networks) reap(ep brig.Endpoint) {
	select {
	case <-time.After(linkGrace):
	case <-n.closing:
	}
	if err := n.host.unplug(ep.EndpointID); err != nil {
		n.log.Warn("delete the link of a detached container; the next start will try again", "endpoint", ep.EndpointID.Short(), "err", err)
	}
	n.mu.Lock()
	n.pool.give(ep.Addr4.Addr())
	n.mu.Unlock()
}

// Restore takes over at start-up: live containers keep their addresses, interfaces and ports; what belongs to none of them is removed.
func (n *Networks) Restore(ctx context.Context, live []*brig.Container) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	keep := map[brig.ID]brig.ID{}
	w := n.find("bridge")
	for _, c := range live {
		ep, ok := c.Endpoints["bridge"]
		if !ok || !ep.Addr4.IsValid() || !c.State.HasProcess() {
			continue
		}
		keep[c.ID] = ep.EndpointID
		n.pool.hold(ep.Addr4.Addr())
		n.at[c.ID] = &place{bindings: ep.Ports, endpoint: ep}
		if err := n.ports.hold(ep.Ports); err != nil {
			n.log.Warn("a published port is not ours any more", "container", c.ID.Short(), "err", err)
		}
	}
	if err := n.host.sweep(keep); err != nil {
		n.log.Warn("sweep networks", "err", err)
	}
	if len(keep) == 0 {
		return nil
	}
	return n.ready(ctx, w)
}

// Close releases what this process holds. With no container attached it also removes the bridge and the rules.
// It is called once, after all other calls have returned.
func (n *Networks) Close() error {
	close(n.closing)
	n.reaping.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports.close()
	if len(n.at) > 0 {
		return nil
	}
	n.host.up = false
	return errs.Wrap(n.host.remove(n.find("bridge")), "remove the bridge")
}
