"""Parsers that are not trusted run in a child process that can only read.

The threat: a file from anyone, made to crash, to hang, to fill the memory or to run code in the C and C++ parsers that
read it (ITK, the decoders of DICOM, torch's unpickler). What is protected: the session of the user, the files, and
whatever the network reaches. How: `parent` keeps one warm child per kind of parser, bounds its memory, time and reply,
and checks what comes back as JSON and plain bytes; `child` answers; `confine` gives up every right but reading. What is
not protected: what the user may read can be read by the child, which has no way to send it anywhere.
"""
