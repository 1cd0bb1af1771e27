package network

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Docker's labels for the options of a bridge network.
const (
	labels        = "com.docker.network."
	optBridge     = labels + "bridge.name"
	optICC        = labels + "bridge.enable_icc"
	optMasquerade = labels + "bridge.enable_ip_masquerade"
	optHostIP     = labels + "bridge.host_binding_ipv4"
	optMode4      = labels + "bridge.gateway_mode_ipv4"
	optMode6      = labels + "bridge.gateway_mode_ipv6"
	optMTU        = labels + "driver.mtu"
	optPrefix     = labels + "container_iface_prefix"
	optIfname     = labels + "endpoint.ifname"  // of an endpoint, not of a network
	optSysctls    = labels + "endpoint.sysctls" // likewise
)

// bridgeOptions is what a bridge network's options mean.
type bridgeOptions struct {
	bridge     string // its name; "": the engine's choice
	icc        bool   // containers may talk to each other
	masquerade bool
	mtu        int        // bytes; 0: the kernel's default
	hostIP     netip.Addr // for ports that are published without an address; invalid: all
	prefix     string     // of interfaces' names inside
}

// parseOptions reads the options of a bridge network. One of Docker's that brig doesn't have is refused, others are passed over.
func parseOptions(opts map[string]string) (o bridgeOptions, err error) {
	o = bridgeOptions{icc: true, masquerade: true, prefix: "eth"}
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		v := opts[k]
		switch k {
		case optBridge:
			o.bridge, err = v, checkIface(v)
		case optICC:
			o.icc, err = strconv.ParseBool(v)
		case optMasquerade:
			o.masquerade, err = strconv.ParseBool(v)
		case optMTU:
			if o.mtu, err = strconv.Atoi(v); err == nil && (o.mtu < 0 || o.mtu > 65535) {
				err = errs.New(errs.Invalid, "out of range")
			}
		case optHostIP:
			if o.hostIP, err = netip.ParseAddr(v); err == nil && !o.hostIP.Is4() {
				err = errs.New(errs.Invalid, "not an IPv4 address")
			}
		case optPrefix:
			o.prefix, err = v, checkIface(v+"0000")
		case optMode4, optMode6:
			if v != "" && v != "nat" {
				return o, errs.New(errs.NotImplemented, "the gateway mode %q (%s) is not supported by brig: there is nat alone", v, k)
			}
		default:
			if strings.HasPrefix(k, labels) {
				return o, errs.New(errs.NotImplemented, "the network option %s is not supported by brig", k)
			}
		}
		if err != nil {
			return o, errs.New(errs.Invalid, "failed to parse %s value: %q (%w)", k, v, err)
		}
	}
	if o.hostIP.IsUnspecified() {
		o.hostIP = netip.Addr{}
	}
	return o, nil
}

// optionsOf reads those of a network that is there.
func optionsOf(w *brig.Network) bridgeOptions {
	o, _ := parseOptions(w.Options) // Create has checked them
	return o
}

// endpointSysctls reads the options of an endpoint, and of them the settings for its interface, "net.ipv4.conf.IFNAME.log_martians=1,…":
// paths beneath /proc/sys, with IFNAME still in them, and values.
func endpointSysctls(opts map[string]string) ([][2]string, error) {
	for _, k := range slices.Sorted(maps.Keys(opts)) {
		if strings.HasPrefix(k, labels) && k != optIfname && k != optSysctls {
			return nil, errs.New(errs.NotImplemented, "the endpoint option %s is not supported by brig", k)
		}
	}
	var out [][2]string
	for _, kv := range strings.Split(opts[optSysctls], ",") {
		if kv == "" {
			continue
		}
		k, v, ok := strings.Cut(kv, "=")
		f := strings.Split(k, ".")
		if !ok || len(f) != 5 || f[0] != "net" || !slices.Contains([]string{"ipv4", "ipv6", "mpls"}, f[1]) || !slices.Contains([]string{"conf", "neigh"}, f[2]) ||
			f[3] != "IFNAME" || strings.ContainsAny(f[4], "/\x00") {
			return nil, errs.New(errs.Invalid, "invalid %s: %q: it must be net.FAMILY.conf.IFNAME.NAME=VALUE", optSysctls, kv)
		}
		out = append(out, [2]string{strings.Join(f, "/"), v})
	}
	return out, nil
}

// checkIface refuses what can't be an interface's name (IFNAMSIZ with its zero byte is 16).
func checkIface(name string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == ':' || r == '%' }
	if name == "" || len(name) > 15 || name == "." || name == ".." || strings.ContainsFunc(name, bad) {
		return errs.New(errs.Invalid, "not a name for a network interface")
	}
	return nil
}
