package elfcheck

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
)

func TestScanAMD64(t *testing.T) {
	sys := []byte{0x0f, 0x05}
	for _, c := range []struct {
		name string
		code []byte
		want []int
	}{
		{"beside", slices.Concat([]byte{0xb8, 0x10, 1, 0, 0}, sys), []int{272}},
		{"cleared", slices.Concat([]byte{0x31, 0xc0}, sys), []int{0}},
		{"moved arguments between", slices.Concat([]byte{0xb8, 165, 0, 0, 0, 0x48, 0x89, 0xf7, 0x4c, 0x89, 0xc2}, sys), []int{165}},
		{"a call between", slices.Concat([]byte{0xb8, 165, 0, 0, 0, 0xe8, 0, 0, 0, 0}, sys), nil},
		{"overwritten", slices.Concat([]byte{0xb8, 165, 0, 0, 0, 0x48, 0x89, 0xf8}, sys), nil},
		{"an address, not a number", slices.Concat([]byte{0x48, 0x8d, 0xb8, 0xa5, 0, 0, 0}, sys), nil}, // lea 0xa5(%rax),%rdi
		{"within an instruction", []byte{0xb8, 165, 0, 0, 0, 0x48, 0xb9, 0x0f, 0x05, 0, 0, 0, 0, 0, 0}, nil},
		{"too high", slices.Concat([]byte{0xb8, 0, 0, 1, 0}, sys), nil},
		{"two", slices.Concat([]byte{0xb8, 1, 0, 0, 0}, sys, []byte{0xb8, 2, 0, 0, 0}, sys), []int{1, 2}},
		{"the second without one", slices.Concat([]byte{0xb8, 1, 0, 0, 0}, sys, sys), []int{1}},
	} {
		got := map[int]bool{}
		scanAMD64(c.code, got)
		if !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestScanARM64(t *testing.T) {
	const svc, nop, ret = 0xd4000001, 0xd503201f, 0xd65f03c0
	movz := func(n, reg uint32) uint32 { return 0xd2800000 | n<<5 | reg }
	for _, c := range []struct {
		name string
		code []uint32
		want []int
	}{
		{"beside", []uint32{movz(97, 8), svc}, []int{97}},
		{"32 bits", []uint32{0x52800000 | 40<<5 | 8, nop, svc}, []int{40}},
		{"another register", []uint32{movz(97, 0), svc}, nil},
		{"returned between", []uint32{movz(97, 8), ret, svc}, nil},
		{"called between", []uint32{movz(97, 8), 0x94000010, svc}, nil},
		{"two", []uint32{movz(1, 8), svc, movz(2, 8), movz(5, 0), svc}, []int{1, 2}},
		{"too high", []uint32{movz(5000, 8), svc}, nil},
	} {
		var code []byte
		for _, w := range c.code {
			code = binary.LittleEndian.AppendUint32(code, w)
		}
		got := map[int]bool{}
		scanARM64(code, got)
		if !slices.Equal(slices.Sorted(maps.Keys(got)), c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
