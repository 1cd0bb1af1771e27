package runtime

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// membership is what a new container's networks are: its main one and those that the request has settings for, by their names as far as
// they are there. One that isn't is looked for again at the start.
func (c *Containers) membership(ctx context.Context, s *brig.Spec, main string) map[string]brig.Endpoint {
	out := map[string]brig.Endpoint{}
	name := func(ref string) (string, brig.ID) {
		w, err := c.cfg.Networks.Lookup(ctx, ref)
		if err != nil || w.Name == "" {
			return ref, ""
		}
		return w.Name, w.ID
	}
	n, _ := name(main)
	out[n] = brig.Endpoint{Spec: s.Networks[main]}
	for ref, spec := range s.Networks {
		n, _ := name(ref)
		out[n] = brig.Endpoint{Spec: spec}
	}
	return out
}

func (c *Containers) networkEvent(w *brig.Network, action string, pairs ...string) {
	at := map[string]string{"name": w.Name, "type": w.Driver}
	for i := 0; i+1 < len(pairs); i += 2 {
		at[pairs[i]] = pairs[i+1]
	}
	c.cfg.Bus.Publish(brig.Event{Type: "network", Action: action, ActorID: string(w.ID), Attributes: at, Time: time.Now()})
}

// NetworkCreate makes a network.
func (c *Containers) NetworkCreate(ctx context.Context, w brig.Network) (brig.ID, error) {
	w, err := c.cfg.Members.Create(ctx, w)
	if err != nil {
		return "", err
	}
	c.networkEvent(&w, "create")
	return w.ID, nil
}

// NetworkRemove removes a network that no running container is in.
func (c *Containers) NetworkRemove(ctx context.Context, ref string) error {
	w, err := c.cfg.Members.Remove(ctx, ref)
	if err != nil {
		return err
	}
	if !w.ConfigOnly {
		c.networkEvent(&w, "destroy")
	}
	return nil
}

// NetworkConnect puts a container into a network: at once if it runs, else with its next start.
func (c *Containers) NetworkConnect(ctx context.Context, network, ref string, spec brig.EndpointSpec) error {
	ct, d, err := c.holdMember(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	ctx = context.WithoutCancel(ctx)
	w, err := c.cfg.Networks.Lookup(ctx, network)
	if err != nil {
		return err
	}
	next := d.Clone()
	if next.Endpoints == nil {
		next.Endpoints = map[string]brig.Endpoint{}
	}
	if !d.State.HasProcess() {
		if err := c.connectable(ctx, d, &w, &spec); err != nil {
			return err
		}
		ep := brig.Endpoint{Spec: spec}
		if !brig.Predefined(w.Name) {
			ep.DNSNames = d.DNSNames(spec.Aliases)
		}
		next.Endpoints[w.Name] = ep
		return c.commit(ctx, ct, next)
	}
	if next.Endpoints, err = c.cfg.Members.Connect(ctx, d, string(w.ID), spec); err != nil {
		return err
	}
	fault.Point("connect.joined")
	if err := c.commit(ctx, ct, next); err != nil {
		_, e := c.cfg.Members.Disconnect(ctx, d, string(w.ID))
		return errors.Join(err, e)
	}
	fault.Point("connect.recorded")
	if err := c.changeFiles(d, next); err != nil {
		c.log.Warn("tell a container of its new network", "container", ct.id.Short(), "err", err)
	}
	c.publishWithin(ctx, next)
	c.networkEvent(&w, "connect", "container", string(ct.id))
	return nil
}

// holdMember takes the lock of a container whose networks shall change, and refuses one that goes. The caller releases the lock.
func (c *Containers) holdMember(ctx context.Context, ref string) (*container, *brig.Container, error) {
	ct, err := c.hold(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	d := c.record(ct)
	if err := c.belongs(d, "its networks are the pod's, which has those that it was made with"); err != nil {
		ct.lock.release()
		return nil, nil, err
	}
	if d.State == brig.Removing || d.State == brig.Dead {
		ct.lock.release()
		return nil, nil, errs.New(errs.Conflict, "Container %s is marked for removal and cannot be connected or disconnected to the network", d.ID)
	}
	return ct, d, nil
}

// connectable says why a container that doesn't run can't be put into w. For one that runs, Memberships says it.
func (c *Containers) connectable(ctx context.Context, d *brig.Container, w *brig.Network, spec *brig.EndpointSpec) error {
	if d.Endpoints == nil || networkMode(&d.Spec) == "host" {
		return errs.New(errs.Invalid, "container sharing network namespace with another container or host cannot be connected to any other network")
	}
	if err := w.CheckFixed(spec); err != nil {
		return err
	}
	if w.Driver == "host" {
		return errs.New(errs.Invalid, "container cannot be disconnected from host network or connected to host network")
	}
	for name := range d.Endpoints {
		x, err := c.cfg.Networks.Lookup(ctx, name)
		if name != w.Name && err == nil && (x.Driver == "null" || w.Driver == "null") {
			return errs.New(errs.Invalid, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
	}
	return nil
}

// NetworkDisconnect takes a container out of a network. force takes a container that doesn't run out of one that is gone.
func (c *Containers) NetworkDisconnect(ctx context.Context, network, ref string, force bool) error {
	ct, d, err := c.holdMember(ctx, ref)
	if err != nil {
		return err
	}
	defer ct.lock.release()
	ctx = context.WithoutCancel(ctx)
	running := d.State.HasProcess()
	w, err := c.cfg.Networks.Lookup(ctx, network)
	if err != nil {
		if running && !force {
			return err
		}
		w = brig.Network{Name: network}
	}
	if _, in := d.Endpoints[w.Name]; !in {
		if err != nil {
			return err
		}
		if !running {
			return errs.New(errs.Internal, "container %s is not connected to the network %s", ct.id, w.Name)
		}
		return errs.New(errs.Internal, "container %s is not connected to network %s", ct.id, w.Name)
	}
	next := d.Clone()
	delete(next.Endpoints, w.Name)
	if running && w.ID != "" {
		eps, err := c.cfg.Members.Disconnect(ctx, d, string(w.ID))
		if err != nil {
			return err
		}
		if eps != nil {
			maps.Copy(next.Endpoints, eps) // ports may be elsewhere now
		}
		fault.Point("disconnect.left")
	}
	if err := c.commit(ctx, ct, next); err != nil {
		return err
	}
	fault.Point("disconnect.recorded")
	if running {
		if err := c.changeFiles(d, next); err != nil {
			c.log.Warn("tell a container that it left a network", "container", ct.id.Short(), "err", err)
		}
		c.publishWithin(ctx, next)
	}
	if w.ID != "" {
		c.networkEvent(&w, "disconnect", "container", string(ct.id))
	}
	return nil
}
