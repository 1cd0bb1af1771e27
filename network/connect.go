package network

import (
	"context"
	"errors"
	"maps"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Connect puts a running container into one more network and returns all its endpoints. A failure leaves it as it was.
func (n *Networks) Connect(ctx context.Context, c *brig.Container, ref string, spec brig.EndpointSpec) (map[string]brig.Endpoint, error) {
	p, ep, err := n.connect(ctx, c, ref, spec)
	if err != nil {
		if p != nil {
			n.letPortsGo(ctx, p)
		}
		return nil, err
	}
	if err := n.serve(ctx, p); err != nil {
		_, e := n.Disconnect(context.WithoutCancel(ctx), c, string(ep.NetworkID))
		return nil, errors.Join(err, e)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(p.eps), nil
}

// connect does Connect's work on the host. With a place and an error, ports may have been reserved.
func (n *Networks) connect(ctx context.Context, c *brig.Container, ref string, spec brig.EndpointSpec) (*place, brig.Endpoint, error) {
	n.serving.Lock() // a first gateway publishes ports
	defer n.serving.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	fail := func(err error) (*place, brig.Endpoint, error) { return nil, brig.Endpoint{}, err }
	w, err := n.lookup(ref)
	if err != nil {
		return fail(err)
	}
	if err := n.joinable(c, w); err != nil {
		return fail(err)
	}
	p, fresh := n.at[c.ID], false
	if p == nil { // it runs in a namespace of its own that we have no file of
		if c.Handle == nil {
			return fail(errs.New(errs.Conflict, "container %s is not running", c.ID))
		}
		p = &place{id: c.ID, name: c.Name, dns: c.Spec.DNS, want: wanted(&c.Spec), eps: map[string]brig.Endpoint{}}
		p.ns = brig.Netns{Kind: brig.NetnsPath, Path: n.host.netnsPath(c.ID)}
		if err := n.host.bind(c.ID, c.Handle.InitPID); err != nil {
			return fail(err)
		}
		n.at[c.ID], fresh = p, true
	}
	err = n.widen(ctx, c, p, member{w, spec})
	if err != nil {
		if fresh {
			err = errors.Join(err, n.leave(p))
		}
		return p, brig.Endpoint{}, err
	}
	n.changed++
	return p, p.eps[w.Name], nil
}

// joinable says why a running container can't be put into w. The caller holds mu.
func (n *Networks) joinable(c *brig.Container, w *brig.Network) error {
	if strings.HasPrefix(mode(&c.Spec), "container:") || mode(&c.Spec) == "host" {
		return alone(&brig.Network{Driver: "host"})
	}
	if w.ConfigOnly {
		return errs.New(errs.Forbidden, "cannot attach container %s to the configuration network %s", c.ID.Short(), w.Name)
	}
	if _, in := c.Endpoints[w.Name]; in {
		return errs.New(errs.Forbidden, "endpoint with name %s already exists in network %s", c.Name, w.Name)
	}
	if w.Driver == "host" {
		return errs.New(errs.Invalid, "container cannot be disconnected from host network or connected to host network")
	}
	for name := range c.Endpoints {
		if x := n.find(name); x != nil {
			if err := alone(x); err != nil {
				return err
			}
		}
	}
	return alone(w)
}

// widen gives a running container a further leg. The caller holds mu and serving.
func (n *Networks) widen(ctx context.Context, c *brig.Container, p *place, m member) (err error) {
	l, err := n.leg(ctx, c, p, m)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			delete(p.eps, m.Name)
			n.showPorts(p)
			err = errors.Join(err, n.host.unplug(l.Endpoint), n.host.reroute(p.id, n.routes(p)))
			n.free(l.Endpoint)
			if len(p.bindings) > 0 {
				err = errors.Join(err, n.program())
			}
		}
	}()
	if err := n.host.add(p.id, []leg{l}, n.routes(p)); err != nil {
		return err
	}
	fault.Point("net.added")
	if err := n.publishPorts(ctx, p); err != nil {
		return errs.Wrap(err, "driver failed programming external connectivity on endpoint %s (%s)", c.Name, l.EndpointID)
	}
	if len(p.bindings) > 0 {
		return n.program()
	}
	return nil
}

// Disconnect takes a running container out of a network and returns the endpoints that are left. A container that is not in it is no error.
func (n *Networks) Disconnect(ctx context.Context, c *brig.Container, ref string) (map[string]brig.Endpoint, error) {
	p, err := n.disconnect(c, ref)
	if p == nil || err != nil {
		return nil, err
	}
	if err := n.serve(ctx, nil); err != nil {
		n.log.Warn("tell the keeper of a disconnected container", "container", c.ID.Short(), "err", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(p.eps), nil
}

func (n *Networks) disconnect(c *brig.Container, ref string) (*place, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, err := n.lookup(ref)
	if err != nil {
		return nil, err
	}
	if w.Driver == "host" {
		return nil, errs.New(errs.Invalid, "container cannot be disconnected from host network or connected to host network")
	}
	p := n.at[c.ID]
	if p == nil {
		return nil, nil
	}
	ep, in := p.eps[w.Name]
	if !in {
		return p, nil
	}
	if err := n.host.unplug(ep); err != nil {
		return nil, err
	}
	fault.Point("net.unplugged")
	delete(p.eps, w.Name)
	n.free(ep)
	n.changed++
	had := len(p.bindings) > 0
	n.showPorts(p)
	err = n.host.reroute(p.id, n.routes(p))
	if had {
		err = errors.Join(err, n.program())
	}
	return p, err
}

// Rename tells of a container's new names, which its endpoints have already.
func (n *Networks) Rename(ctx context.Context, c *brig.Container) error {
	n.mu.Lock()
	p := n.at[c.ID]
	if p != nil {
		p.name = c.Name
		for name, ep := range p.eps {
			ep.DNSNames = c.Endpoints[name].DNSNames
			p.eps[name] = ep
		}
		n.changed++
	}
	needs := p != nil && n.needsKeeperLocked(p)
	n.mu.Unlock()
	if !needs {
		return nil
	}
	return errs.Wrap(n.serve(ctx, nil), "tell the keeper of a new name")
}
