package network

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// Create makes the network that w describes, with an ID, and the subnets and the bridge that w leaves open. The record comes last: a
// bridge that no record names is swept.
func (n *Networks) Create(ctx context.Context, w brig.Network) (brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.complete(&w); err != nil {
		return w, err
	}
	if w.ConfigOnly {
		return w, n.record(ctx, &w)
	}
	if err := n.host.ensure(&w, optionsOf(&w)); err != nil {
		return w, err
	}
	fault.Point("net.bridged")
	n.up[w.ID] = true
	n.watching.Do(func() { n.tending.Go(n.watch) })
	n.nets = append(n.nets, &w)
	err := n.program()
	if err == nil {
		fault.Point("net.ruled")
		err = n.save(ctx, &w)
	}
	if err != nil {
		n.drop(&w)
		return w, err
	}
	fault.Point("net.recorded")
	return w, nil
}

func (n *Networks) record(ctx context.Context, w *brig.Network) error {
	err := n.save(ctx, w)
	if err == nil {
		n.nets = append(n.nets, w)
	}
	return err
}

// drop forgets w and takes what it has on the host. The caller holds mu.
func (n *Networks) drop(w *brig.Network) {
	n.nets = slices.DeleteFunc(n.nets, func(x *brig.Network) bool { return x == w })
	delete(n.up, w.ID)
	delete(n.pools, w.ID)
	if w.ConfigOnly {
		return
	}
	if err := n.program(); err != nil {
		n.log.Warn("remove a network's rules; the next change does it", "network", w.Name, "err", err)
	}
	fault.Point("net.unruled")
	if err := n.host.removeBridge(w); err != nil {
		n.log.Warn("remove a network's bridge; the next start tries again", "network", w.Name, "err", err)
	}
}

// Remove removes a network that no running container is in, and returns it.
func (n *Networks) Remove(ctx context.Context, ref string) (brig.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, err := n.lookup(ref)
	if err != nil {
		return brig.Network{}, err
	}
	if brig.Predefined(w.Name) {
		return *w, errs.New(errs.Forbidden, "%s is a pre-defined network and cannot be removed", w.Name)
	}
	if w.ConfigOnly && slices.ContainsFunc(n.nets, func(x *brig.Network) bool { return x.ConfigFrom == w.Name }) {
		return *w, errs.New(errs.Forbidden, "error while removing network: configuration network %q is in use", w.Name)
	}
	for _, p := range n.at {
		if ep, in := p.eps[w.Name]; in && ep.NetworkID == w.ID {
			return *w, errs.New(errs.Forbidden, "error while removing network: network %s id %s has active endpoints", w.Name, w.ID)
		}
	}
	if err := n.cfg.Records.Put(ctx, nil, []brig.Record{{Kind: kind, Key: string(w.ID)}}); err != nil {
		return *w, errs.Wrap(err, "remove network %s", w.Name)
	}
	fault.Point("net.forgotten")
	n.drop(w)
	return *w, nil
}

// complete checks w and fills in what it leaves open. The caller holds mu.
func (n *Networks) complete(w *brig.Network) error {
	if strings.TrimSpace(w.Name) == "" {
		return errs.New(errs.Invalid, "network name cannot be blank")
	}
	if brig.Predefined(w.Name) {
		return errs.New(errs.Forbidden, "operation is not permitted on predefined %s network ", w.Name)
	}
	if err := n.inherit(w); err != nil {
		return err
	}
	if err := checkDriver(w); err != nil {
		return err
	}
	o, err := parseOptions(w.Options)
	if err != nil {
		return err
	}
	if err := checkSubnets(w); err != nil {
		return err
	}
	if n.find(w.Name) != nil {
		return errs.New(errs.Conflict, "network with name %s already exists", w.Name)
	}
	w.ID, w.Created = brig.NewID(), time.Now().UTC()
	if w.ConfigOnly {
		return nil
	}
	w.Bridge = o.bridge
	if w.Bridge == "" {
		w.Bridge = n.host.userBridge(w.ID)
	}
	for _, x := range n.nets {
		if x.Bridge != "" && x.Bridge == w.Bridge {
			return errs.New(errs.Forbidden, "cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name", w.ID, w.Bridge, x.ID, x.Bridge)
		}
	}
	return n.allot(w)
}

// inherit gives w the settings of the network that it names for them.
func (n *Networks) inherit(w *brig.Network) error {
	if w.ConfigOnly {
		if w.ConfigFrom != "" {
			return errs.New(errs.Forbidden, "a configuration network cannot depend on another configuration network")
		}
		w.Driver = "null"
		return nil
	}
	if w.ConfigFrom == "" {
		return nil
	}
	from := n.find(w.ConfigFrom)
	if from == nil || !from.ConfigOnly {
		return errs.New(errs.NotFound, "configuration network %q does not exist", w.ConfigFrom)
	}
	if len(w.Subnets) > 0 || len(w.Options) > 0 || w.IPv6 || w.Internal {
		return errs.New(errs.Forbidden, "user specified configurations are not supported if the network depends on a configuration network")
	}
	w.IPv6, w.NoIPv4, w.Internal = from.IPv6, from.NoIPv4, from.Internal
	w.Subnets, w.Options, w.IPAMOptions = slices.Clone(from.Subnets), maps.Clone(from.Options), maps.Clone(from.IPAMOptions)
	both := maps.Clone(from.Labels)
	if both == nil {
		both = map[string]string{}
	}
	maps.Copy(both, w.Labels)
	w.Labels = both
	return nil
}

func checkDriver(w *brig.Network) error {
	switch w.Driver {
	case "", "default", "bridge":
		w.Driver = "bridge"
	case "null", "host":
		if !w.ConfigOnly {
			return errs.New(errs.Forbidden, "only one instance of \"%s\" network is allowed", w.Driver)
		}
	case "macvlan", "ipvlan":
		return errs.New(errs.NotImplemented, "the network driver %s is not supported by brig", w.Driver)
	default:
		return errs.New(errs.NotFound, "plugin %q not found", w.Driver)
	}
	return nil
}

// allot checks w's subnets against those of other networks, and chooses those that are missing. The caller holds mu.
func (n *Networks) allot(w *brig.Network) error {
	var others []netip.Prefix
	for _, x := range n.nets {
		if !x.ConfigOnly {
			for _, s := range x.Subnets {
				others = append(others, s.Prefix)
			}
		}
	}
	has4, has6 := w.NoIPv4, !w.IPv6
	for i := range w.Subnets {
		s := &w.Subnets[i]
		if overlaps(others, s.Prefix) {
			return errs.New(errs.Forbidden, "invalid pool request: Pool overlaps with other one on this address space")
		}
		others = append(others, s.Prefix)
		has4, has6 = has4 || s.Prefix.Addr().Is4(), has6 || !s.Prefix.Addr().Is4()
		if err := reserve(s); err != nil {
			return err
		}
	}
	if has4 && has6 {
		return nil
	}
	busy, err := n.host.taken("")
	if err != nil {
		return err
	}
	busy = append(busy, others...)
	for _, missing := range []struct {
		has        bool
		candidates func() []netip.Prefix
	}{{has4, userCandidates4}, {has6, func() []netip.Prefix { return candidates6(n.cfg.Instance) }}} {
		if missing.has {
			continue
		}
		s, err := choose(missing.candidates(), busy)
		if err != nil {
			return err
		}
		w.Subnets = append(w.Subnets, s)
	}
	return nil
}

// reserve gives s a gateway if it has none, and refuses one, or an auxiliary address, that something else has. The gateway comes first.
func reserve(s *brig.Subnet) error {
	var p pool
	bare := brig.Subnet{Prefix: s.Prefix, Range: s.Range}
	if s.Gateway.IsValid() {
		if _, err := p.take(bare, s.Gateway.String()); err != nil {
			return errs.Wrap(err, "failed to allocate gateway (%s)", s.Gateway)
		}
	} else {
		gw, err := p.take(bare, "")
		if err != nil {
			return err
		}
		s.Gateway, s.AutoGateway = gw.Addr(), true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
		if _, err := p.take(bare, s.Aux[name].String()); err != nil {
			return errs.Wrap(err, "failed to allocate secondary ip address (%s:%s)", name, s.Aux[name])
		}
	}
	return nil
}

// checkSubnets finds what is wrong with the subnets that a request names; all of it is said at once. Those of a family that is off go.
func checkSubnets(w *brig.Network) error {
	if w.NoIPv4 && !w.IPv6 && !w.ConfigOnly {
		return errs.New(errs.Invalid, "IPv4 or IPv6 must be enabled")
	}
	var wrong []string
	count := map[bool]int{}
	w.Subnets = slices.DeleteFunc(slices.Clone(w.Subnets), func(s brig.Subnet) bool {
		return s.Prefix.IsValid() && (s.Prefix.Addr().Is4() && w.NoIPv4 || !s.Prefix.Addr().Is4() && !w.IPv6)
	})
	for _, s := range w.Subnets {
		wrong = append(wrong, checkSubnet(s)...)
		count[s.Prefix.Addr().Is4()]++
	}
	if len(wrong) > 0 {
		return errs.New(errs.Invalid, "invalid network config:\n%s", strings.Join(wrong, "\n"))
	}
	if count[true] > 1 || count[false] > 1 {
		return errs.New(errs.Forbidden, "bridge driver doesn't support multiple subnets")
	}
	return nil
}

func checkSubnet(s brig.Subnet) (wrong []string) {
	if !s.Prefix.IsValid() {
		return []string{"invalid subnet : invalid CIDR block notation"}
	}
	is4 := s.Prefix.Addr().Is4()
	kind := "IPv6"
	if is4 {
		kind = "IPv4"
	}
	if m := s.Prefix.Masked(); m != s.Prefix {
		wrong = append(wrong, "invalid subnet "+s.Prefix.String()+": it should be "+m.String())
	}
	if r := s.Range; r.IsValid() {
		bad := "invalid ip-range " + r.String() + ": "
		switch {
		case r.Addr().Is4() != is4:
			wrong = append(wrong, bad+"parent subnet is an "+kind+" block")
		case r.Masked() != r:
			wrong = append(wrong, bad+"it should be "+r.Masked().String())
		case r.Bits() < s.Prefix.Bits():
			wrong = append(wrong, bad+"CIDR block is bigger than its parent subnet "+s.Prefix.String())
		case !s.Prefix.Contains(r.Addr()):
			wrong = append(wrong, bad+"parent subnet "+s.Prefix.String()+" doesn't contain ip-range")
		}
	}
	addrs := map[string]netip.Addr{}
	if s.Gateway.IsValid() {
		addrs["gateway"] = s.Gateway
	}
	for name, a := range s.Aux {
		addrs["auxiliary address "+name] = a
	}
	for _, what := range slices.Sorted(maps.Keys(addrs)) {
		bad := "invalid " + strings.TrimSuffix(what, " ") + " " + addrs[what].String() + ": "
		switch a := addrs[what]; {
		case a.Is4() != is4:
			wrong = append(wrong, bad+"parent subnet is an "+kind+" block")
		case !s.Prefix.Contains(a):
			wrong = append(wrong, bad+"parent subnet "+s.Prefix.String()+" doesn't contain this address")
		}
	}
	return wrong
}
