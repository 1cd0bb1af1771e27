package jailspec

import "encoding/binary"

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

// Iov gives a mount the elements of nmount(2)'s vector, in pairs. target is what its Target has been found to be.
func (m *Mount) Iov(target string) (out [][]byte) {
	add := func(name, value string) { out = append(out, cString(name), cString(value)) }
	add("fstype", m.Type)
	add("fspath", target)
	if m.From != "" {
		key := "from"
		if m.Type == "nullfs" {
			key = "target" // mount_nullfs(8)'s word
		}
		add(key, m.From)
	}
	for _, o := range m.Options {
		out = append(out, cString(o[0]))
		if o[1] == "" {
			out = append(out, nil)
		} else {
			out = append(out, cString(o[1]))
		}
	}
	return out
}

func cString(s string) []byte { return append([]byte(s), 0) }
