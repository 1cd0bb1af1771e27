package jailspec

import (
	"encoding/binary"

	"github.com/brigd/brig/internal/nmount"
)

// Iov gives a parameter the form of two elements of jail_set(2)'s vector; value is nil for a boolean.
func (p Param) Iov() (name, value []byte) {
	name = cString(p.Name)
	switch p.Kind {
	case Int:
		value = binary.NativeEndian.AppendUint32(nil, uint32(p.Int))
	case String:
		value = cString(p.Str)
	}
	return name, value
}

// Stages are the parameters that the jail is made with, and those that it gets when its network stack has been prepared from inside, which they would
// forbid: where nobody prepares one all are of the first kind.
func (b *Bundle) Stages() (first, then []Param) {
	for _, p := range b.Params {
		if b.Alone && (p.Name == "securelevel" || p.Name == "allow.nosuser") {
			then = append(then, p)
		} else {
			first = append(first, p)
		}
	}
	return first, then
}

// Iov gives a mount the elements of nmount(2)'s vector, in pairs. target is what its Target has been found to be.
func (m *Mount) Iov(target string) [][]byte {
	return nmount.Pairs(m.Type, m.From, target, m.Options)
}

func cString(s string) []byte { return append([]byte(s), 0) }
