package keeper

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/miekg/dns"
)

const (
	ttl       = 600  // seconds that local names may be kept, as dockerd has it
	headLen   = 12   // bytes of a message's header (RFC 1035, 4.1.1)
	ownUDP    = 1232 // bytes of a UDP answer that no path fragments; told to clients that ask with EDNS
	maxUDP    = 65000
	maxTCP    = dns.MaxMsgSize
	bitQR     = 0x80 // of the header's third byte
	bitTC     = 0x02
	bitsOp    = 0x78
	rcodeMask = 0x0f // of its fourth
)

// query is one that upstream servers have to answer.
type query struct {
	raw      []byte
	question []byte // of raw
	limit    int    // bytes that the client takes in one message
	tcp      bool   // how the client asked
}

// answer handles one message. At most one result is set: reply goes to the client at once, forward has to be asked upstream; with
// neither the message is no query and is ignored.
func (v *view) answer(raw []byte, tcp bool) (reply []byte, forward *query) {
	if len(raw) < headLen || raw[2]&bitQR != 0 {
		return nil, nil
	}
	if raw[2]&bitsOp != 0 {
		return refuse(raw, dns.RcodeNotImplemented), nil
	}
	question := questionOf(raw)
	var m dns.Msg
	if question == nil || m.Unpack(raw) != nil || len(m.Question) != 1 {
		return refuse(raw, dns.RcodeFormatError), nil
	}
	q := &query{raw: raw, question: question, limit: dns.MinMsgSize, tcp: tcp}
	opt := m.IsEdns0()
	switch {
	case tcp:
		q.limit = maxTCP
	case opt != nil:
		q.limit = min(max(q.limit, int(opt.UDPSize())), maxUDP)
	}
	if opt != nil && opt.Version() != 0 {
		return q.pack(&m, nil, dns.RcodeBadVers), nil
	}
	if rrs, rcode, ok := v.local(&m.Question[0]); ok {
		return q.pack(&m, rrs, rcode), nil
	}
	return nil, q
}

// local answers from the names of the container's networks; not ok: others have to be asked.
func (v *view) local(q *dns.Question) (rrs []dns.RR, rcode int, ok bool) {
	single := !strings.Contains(strings.TrimSuffix(q.Name, "."), ".")
	if q.Qclass == dns.ClassINET {
		if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
			if a, is := reversed(q.Name); is {
				if name := v.nameOf(a); name != "" {
					return []dns.RR{&dns.PTR{Hdr: header(q, dns.TypePTR), Ptr: name}}, dns.RcodeSuccess, true
				}
			}
		}
		if rrs, ok = v.addresses(q); ok {
			return rrs, dns.RcodeSuccess, true
		}
		if single && v.ndots && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA) {
			return nil, dns.RcodeSuccess, true
		}
	}
	if !v.internal && len(v.servers) > 0 {
		return nil, 0, false
	}
	if single {
		return nil, dns.RcodeNameError, true
	}
	return nil, dns.RcodeServerFailure, true
}

// addresses answers for names that are known. A type that there is nothing of has an empty answer: an upstream server would say
// that the whole name doesn't exist.
func (v *view) addresses(q *dns.Question) (rrs []dns.RR, known bool) {
	types := []uint16{q.Qtype}
	if q.Qtype == dns.TypeANY {
		types = []uint16{dns.TypeA, dns.TypeAAAA}
	}
	for _, t := range types {
		found, is := v.find(q.Name, t)
		known = known || is
		for _, a := range found {
			switch t {
			case dns.TypeA:
				rrs = append(rrs, &dns.A{Hdr: header(q, t), A: a.AsSlice()})
			case dns.TypeAAAA:
				rrs = append(rrs, &dns.AAAA{Hdr: header(q, t), AAAA: a.AsSlice()})
			}
		}
	}
	return rrs, known
}

func header(q *dns.Question, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// pack encodes the answer to m within the client's limit.
func (q *query) pack(m *dns.Msg, rrs []dns.RR, rcode int) []byte {
	r := new(dns.Msg)
	r.SetRcode(m, rcode)
	r.RecursionAvailable, r.Compress, r.Answer = true, true, rrs
	if m.IsEdns0() != nil {
		r.SetEdns0(ownUDP, false)
	}
	r.Truncate(q.limit)
	b, err := r.Pack()
	if err != nil {
		return refuse(q.raw, dns.RcodeServerFailure)
	}
	return b
}

// fit makes an upstream server's reply no longer than the client takes.
func (q *query) fit(reply []byte) []byte {
	if len(reply) <= q.limit {
		return reply
	}
	var m dns.Msg
	if m.Unpack(reply) == nil {
		m.Compress = true
		m.Truncate(q.limit)
		if b, err := m.Pack(); err == nil && len(b) <= q.limit {
			return b
		}
	}
	b := refuse(q.raw, int(reply[3]&rcodeMask))
	b[2] |= bitTC
	return b
}

// answers reports whether reply belongs to the query that was sent with id.
func (q *query) answers(reply []byte, id uint16) bool {
	return len(reply) >= headLen && reply[2]&bitQR != 0 && binary.BigEndian.Uint16(reply) == id && bytes.EqualFold(questionOf(reply), q.question)
}

// refuse makes an answer of a query's header, and of its question if that can be read, without records.
func refuse(raw []byte, rcode int) []byte {
	question := questionOf(raw)
	b := append(make([]byte, 0, headLen+len(question)), raw[:headLen]...)
	b[2] = b[2]&^(bitTC|0x04) | bitQR // no authority
	b[3] = 0x80 | byte(rcode)         // recursion is available
	clear(b[4:])
	if question != nil {
		b[5] = 1
	}
	return append(b, question...)
}

// questionOf returns the bytes of a message's only question: a name without compression, type and class. nil: it has none.
func questionOf(raw []byte) []byte {
	if len(raw) < headLen || binary.BigEndian.Uint16(raw[4:]) != 1 {
		return nil
	}
	at := headLen
	for at < len(raw) {
		n := int(raw[at])
		if n > 63 {
			return nil
		}
		at += 1 + n
		if n == 0 {
			if at+4 > len(raw) || at-headLen > 255 {
				return nil
			}
			return raw[headLen : at+4 : at+4]
		}
	}
	return nil
}
