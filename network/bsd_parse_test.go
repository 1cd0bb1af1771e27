package network

import (
	"fmt"
	"reflect"
	"testing"
)

// As ifconfig.c of FreeBSD 13.2 prints, with -f inet:cidr,inet6:cidr and without.
const nicsText = `em0: flags=8863<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500
	description: LAN
	options=4810099<RXCSUM,VLAN_MTU,VLAN_HWTAGGING,VLAN_HWCSUM,WOL_MAGIC,HWSTATS,MEXTPG>
	ether 52:54:00:12:34:56
	inet 192.0.2.1/24 broadcast 192.0.2.255
	inet 198.51.100.1 netmask 0xfffffe00 broadcast 198.51.101.255
	inet6 fe80::5054:ff:fe12:3456%em0/64 scopeid 0x1
	inet6 2001:db8::1 prefixlen 64 autoconf
	media: Ethernet autoselect (1000baseT <full-duplex>)
	status: active
	nd6 options=23<PERFORMNUD,ACCEPT_RTADV,AUTO_LINKLOCAL>
lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384
	options=680003<RXCSUM,TXCSUM,LINKSTATE,RXCSUM_IPV6,TXCSUM_IPV6>
	inet 127.0.0.1/8
	groups: lo
tun0: flags=8010<POINTOPOINT,MULTICAST> metric 0 mtu 1500
	inet 10.8.0.2 --> 10.8.0.1 netmask 0xffffffff
	inet 10.9.0.2 --> 10.9.0.1
	groups: tun
brig-1a2b3c4d: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500
	description: brig_1a2b3c4d
	ether 02:42:ac:11:00:01
	id 00:00:00:00:00:00 priority 32768 hellotime 2 fwddelay 15
	maxage 20 holdcnt 6 proto rstp maxaddr 2000 timeout 1200
	root id 00:00:00:00:00:00 priority 32768 ifcost 0 port 0
	member: v1a2b-abcdef01 flags=143<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>
	        ifmaxaddr 0 port 5 priority 128 path cost 2000
	member: v1a2b-abcdef02 flags=943<LEARNING,DISCOVER,PRIVATE,AUTOEDGE,AUTOPTP>
	        ifmaxaddr 0 port 7 priority 128 path cost 2000
	groups: bridge b6bc5520a8755x
	nd6 options=9<PERFORMNUD,IFDISABLED>
`

func TestParseNICs(t *testing.T) {
	got, err := parseNICs(nicsText)
	if err != nil {
		t.Fatal(err)
	}
	want := "[{em0 LAN true false [] [] [192.0.2.1/24 198.51.100.1/23 fe80::5054:ff:fe12:3456/64 2001:db8::1/64]} {lo0  true true [lo] [] [127.0.0.1/8]} " +
		"{tun0  false false [tun] [] [10.8.0.2/32 10.9.0.2/32]} " +
		"{brig-1a2b3c4d brig_1a2b3c4d true false [bridge b6bc5520a8755x] [v1a2b-abcdef01 v1a2b-abcdef02] []}]"
	var shown []string
	for _, n := range got {
		var addrs []string
		for _, a := range n.addrs {
			addrs = append(addrs, a.String())
		}
		shown = append(shown, fmt.Sprintf("{%s %s %t %t %v %v %v}", n.name, n.descr, n.up, n.loopback, n.groups, n.members, addrs))
	}
	if fmt.Sprint(shown) != want {
		t.Errorf("%v\nnot\n%s", shown, want)
	}
	for _, bad := range []string{"\tinet 10.0.0.1/24\n", "ifconfig: usage\n", "em0: flags=8863<UP>\n\tinet 10.0.0/24\n", "em0: flags=1<UP>\n\tinet 10.0.0.1/33\n",
		"em0: flags=1<UP>\n\tinet 10.0.0.1 netmask 0xff\n", "em0: flags=1<UP>\n\tinet6 fe80::1 prefixlen x\n"} {
		if got, err := parseNICs(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestParseCreated(t *testing.T) {
	if a, b, err := parseCreated("epair12a\n"); a != "epair12a" || b != "epair12b" || err != nil {
		t.Errorf("%q, %q, %v", a, b, err)
	}
	for _, bad := range []string{"", "epair\n", "epair1b\n", "epaira\n", "tap0\n", "epair1a epair2a\n", "epair-1a\n"} {
		if a, _, err := parseCreated(bad); err == nil {
			t.Errorf("%q: %q", bad, a)
		}
	}
}

func TestParseJails(t *testing.T) {
	got, err := parseJails("brignet-1a2b3c4d-0000000000000001\nbrignet-1a2b3c4d-0000000000000001.brig-1a2b3c4d-0001\nwww\n")
	if want := map[string]int{"brignet-1a2b3c4d-0000000000000001": 1, "brignet-1a2b3c4d-0000000000000001.brig-1a2b3c4d-0001": 0, "www": 0}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parseJails(""); err != nil || len(got) > 0 {
		t.Errorf("no jails: %v, %v", got, err)
	}
	if got, err := parseJails("jls: nonsense\n"); err == nil {
		t.Errorf("%v", got)
	}
}

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]string{
		"   route to: default\ndestination: default\n       mask: default\n    gateway: 172.17.0.1\n        fib: 0\n  interface: eth0\n      flags: <UP,GATEWAY,DONE,STATIC>\n": "{eth0 172.17.0.1}",
		"   route to: default\ndestination: ::\n       mask: ::\n    gateway: fe80::1%eth1\n  interface: eth1\n":                                                                "{eth1 fe80::1}",
		"   route to: default\ndestination: default\n  interface: tun0\n":                                                                                                       "{tun0 invalid IP}",
		"": "{ invalid IP}",
	} {
		r := parseRoute(text)
		if got := fmt.Sprintf("{%s %s}", r.iface, r.via); got != want {
			t.Errorf("%q: %s, not %s", text, got, want)
		}
	}
}

func TestParseAnchors(t *testing.T) {
	for text, want := range map[string]string{
		"nat-anchor \"brig/*\" all\nrdr-anchor \"brig/*\" all\nanchor \"brig/*\" all\n":                       "[]",
		"no nat on em0 all\nnat-anchor \"brig/*\" all\nscrub in all\nblock drop all\nanchor \"brig/*\" all\n": `[rdr-anchor "brig/*"]`,
		"nat-anchor \"brig\" all\nrdr-anchor \"cni-rdr/*\" all\nanchor \"brig/*\" on em0 all\n":               `[nat-anchor "brig/*" rdr-anchor "brig/*" anchor "brig/*"]`,
	} {
		if got := fmt.Sprint(parseAnchors(text)); got != want {
			t.Errorf("%q: %s, not %s", text, got, want)
		}
	}
}
