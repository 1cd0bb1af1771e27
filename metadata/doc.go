// Package metadata is the appc metadata service (appc spec 0.8.11, ace.md): the HTTP handler, tokens and signatures, and what brig-mds is
// besides; and the Publisher by which brigd tells brig-mds which pods there are.
//
// brigd publishes each pod that runs as a file. brig-mds, a process of its own that goes on while brigd is down, reads these files and
// nothing else; keys come to it through its socket. It listens on the gateways that pods reach it at, never elsewhere, and knows a pod
// by its source address, the address that it called, and the token in the URL.
package metadata
