// Package docker2aci is a module of its own, so that docker2aci and the old releases it needs stay out of brig's. It holds the oracle
// (docker2aci-oracle) and keeps appc's actool and validator (ace) at hand; the tests of convert and of integration build and run them. README.md has what they found.
package docker2aci
