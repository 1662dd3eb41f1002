"""What every optimizer is made of: numbers, slots, the rule, the transformation, the card."""
