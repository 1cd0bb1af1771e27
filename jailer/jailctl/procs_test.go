package jailctl

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// kinfo makes one struct kinfo_proc of n bytes.
func kinfo(n, pid, ppid, jid int, sec, usec uint64, state byte, comm string) []byte {
	b := make([]byte, n)
	e := binary.LittleEndian
	e.PutUint32(b, uint32(n))
	e.PutUint32(b[72:], uint32(pid))
	e.PutUint32(b[76:], uint32(ppid))
	e.PutUint64(b[336:], sec)
	e.PutUint64(b[344:], usec)
	b[388] = state
	copy(b[447:467], comm)
	e.PutUint32(b[592:], uint32(jid))
	return b
}

func TestParseProcs(t *testing.T) {
	second := kinfo(1088, 9, 7, 4, 1, 2, Stopped, "nineteen characters.")
	for at, v := range map[int]uint64{608: 2, 616: 3, 624: 1, 752: 4, 776: 2} { // seconds and µs, its own and of its children
		binary.LittleEndian.PutUint64(second[at:], v)
	}
	two := append(kinfo(1088, 7, 1, 0, 1700000000, 5, 3, "init"), second...)
	got, err := ParseProcs(two)
	if err != nil || len(got) != 2 || got[0] != (Proc{PID: 7, PPID: 1, Start: 1700000000000005, State: 3, Command: "init"}) ||
		got[1] != (Proc{PID: 9, PPID: 7, Jail: 4, Start: 1000002, User: 6000003, Kernel: 1000002, State: Stopped, Command: "nineteen characters."}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseProcs(nil); err != nil || got != nil {
		t.Errorf("none: %v %v", got, err)
	}
	for name, b := range map[string][]byte{"cut": two[:1500], "short": kinfo(784, 1, 1, 1, 1, 1, 1, "x")[:700], "size": kinfo(1088, 1, 1, 1, 1, 1, 1, "x")[:800]} {
		if _, err := ParseProcs(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	small := kinfo(1088, 1, 1, 1, 1, 1, 1, "x")
	binary.LittleEndian.PutUint32(small, 8)
	if _, err := ParseProcs(small); err == nil {
		t.Error("a structure of 8 bytes: no error")
	}
}

func TestParseUsage(t *testing.T) {
	got := ParseUsage("cputime=3,memoryuse=4096,x,pcpu=,=4\x00\x00")
	if len(got) != 3 || got["cputime"] != 3 || got["memoryuse"] != 4096 {
		t.Error(got)
	}
}

func TestParseLimits(t *testing.T) {
	got := ParseLimits("jail:a.b:memoryuse:sigkill=4096,jail:a.b:maxproc:deny=7/jail,x,jail:a.b:pcpu:deny=\x00")
	if len(got) != 2 || got["memoryuse"] != 4096 || got["maxproc"] != 7 {
		t.Error(got)
	}
}

func TestCPUMask(t *testing.T) {
	for list, want := range map[string]uint64{"0": 1, "0-2,5": 0x27, "3": 8, " 1 , 1": 2} {
		got, err := CPUMask(list, 6)
		if err != nil || len(got) != 4 || got[0] != want {
			t.Errorf("%q: %x %v", list, got, err)
		}
	}
	for _, list := range []string{"", "6", "2-1", "a", "0-", "-1", "0,,1", "0-99999999999999999999"} {
		if got, err := CPUMask(list, 6); err == nil {
			t.Errorf("%q: %x", list, got)
		}
	}
	if got, err := CPUMask("64-65", 128); err != nil || fmt.Sprint(got) != "[0 3 0 0]" {
		t.Error(got, err)
	}
}
