// Package pve is the way to the Proxmox host: the verbs, what the gate answers, and the SSH client that asks it.
// It holds no policy: who may use a verb is auth's, when to ask first is bot's, and what a verb does on the host is
// pve/gate's.
package pve
