package brig

import "testing"

func TestLinkMark(t *testing.T) {
	whole := LinkMark{"0a1b2c3d", "0123456789abcdef", "89abcdef", "eth0.1:x"}
	if got, ok := ParseLinkMark(whole.String()); !ok || got != whole {
		t.Errorf("%+v, %v", got, ok)
	}
	if got, ok := ParseLinkMark("brig_0a1b2c3d:0123456789abcdef:89abcdef"); !ok || got.Endpoint != "89abcdef" || got.Iface != "" {
		t.Errorf("an earlier version's: %+v, %v", got, ok)
	}
	for _, s := range []string{"", "brig_0a1b2c3d", "uplink: of brig_1:2:3", LinkMark{Instance: "0a1b2c3d"}.String()} {
		if got, ok := ParseLinkMark(s); ok {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
