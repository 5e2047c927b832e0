"""The enroll, rekey, confirm and revoke exchanges: machines for both sides, effects out, time in."""
