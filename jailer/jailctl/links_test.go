package jailctl

import (
	"encoding/binary"
	"slices"
	"testing"
)

// message makes one struct if_msghdr with its sockaddr_dl.
func message(kind byte, flags uint32, name string, counts map[int]uint64) []byte {
	b := make([]byte, 16+152+8+len(name))
	binary.LittleEndian.PutUint16(b, uint16(len(b)))
	b[2], b[3] = 5, kind
	binary.LittleEndian.PutUint32(b[8:], flags)
	binary.LittleEndian.PutUint16(b[16+6:], 152)
	for off, n := range counts {
		binary.LittleEndian.PutUint64(b[16+off:], n)
	}
	b[168+5] = byte(len(name))
	copy(b[168+8:], name)
	return b
}

func TestParseLinks(t *testing.T) {
	lo := message(0xe, 0x8049, "lo0", nil)
	eth := message(0xe, 0x8843, "eth0", map[int]uint64{24: 1, 32: 2, 40: 3, 48: 4, 64: 5, 72: 6, 96: 7, 104: 8})
	log := message(0xe, 0, "pflog0", nil)
	log[16] = 0xf6
	addr := message(0xc, 0, "", nil) // an address, which has another structure
	list := slices.Concat(lo, eth, log, addr)
	got, err := ParseLinks(list)
	want := Link{Name: "eth0", RxPackets: 1, RxErrors: 2, TxPackets: 3, TxErrors: 4, RxBytes: 5, TxBytes: 6, RxDropped: 7, TxDropped: 8}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got := want.Opposite("in"); got.Opposite("eth0") != want || got.RxBytes != want.TxBytes || got.TxDropped != want.RxDropped || got.Name != "in" {
		t.Errorf("its other end: %+v", got)
	}
	for n := 1; n < len(eth); n++ {
		if _, err := ParseLinks(eth[:n]); err == nil {
			t.Errorf("%d bytes of one: no error", n)
		}
	}
	other := append([]byte(nil), eth...)
	other[16+6] = 160
	if _, err := ParseLinks(other); err == nil {
		t.Error("another structure: no error")
	}
}
