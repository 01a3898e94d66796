"""Parsers that are not trusted run in a child process that can only read.

The threat: a file from anyone that crashes, hangs, fills the memory or runs code in the C and C++ parsers that read it
(ITK, the decoders of DICOM, torch's unpickler). Protected are the user's session, the user's files, and everything that
the network reaches. `parent` keeps one warm child per kind of parser, bounds its memory, time and reply, and checks
the reply, which is JSON and plain bytes; `child` answers; `confine` gives up every right but reading. Not protected:
the child can read what the user can read. It has no way to send it anywhere.
"""
